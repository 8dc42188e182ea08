"""Images that come one by one: a model behind one call, a line that is watched, a server."""

"""The one place that touches what other libraries do not promise to keep: `touched.TOUCHED` lists all of it."""

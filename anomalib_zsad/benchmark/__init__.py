"""One command for a grid of experiments: models x protocols x targets x numbers of references x seeds."""

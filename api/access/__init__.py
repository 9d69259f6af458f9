"""API tokens, bearer authentication, limits on each token's requests. Used by `api`, run.py and the commands."""

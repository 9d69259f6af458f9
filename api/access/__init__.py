"""API tokens, bearer authentication and the limits on each token's requests. Used by the rest of `api`.

`run.py` and the commands create and list tokens with `api.access.tokens`.
"""

"""Who may ask for what: API tokens, bearer authentication, limits on requests."""

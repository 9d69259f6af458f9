"""The status page: its routes, its login sessions, and its rendering as HTML and SVG. Used by `api/app.py`."""

"""Requests a second of the HTTP API, against a handler of the same framework that does nothing but the query."""

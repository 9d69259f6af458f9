"""Requests a second of the HTTP API beside a bare handler."""

"""Tests of the HTTP API, over sockets."""

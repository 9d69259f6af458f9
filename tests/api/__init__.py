"""Tests of the HTTP API, most of them over sockets."""

"""Tests of the status page, over HTTP and in a browser."""

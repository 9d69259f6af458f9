"""Prometheus metrics: counts of requests, gauges read from the database, and the resource that serves both.

Used by `api/app.py`.
"""

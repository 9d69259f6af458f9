"""Storms: many companies at the same time on one store.

`python -m bench.storms` runs three in threads; `locustfile.py` is one for locust, of any size and also over HTTP.
"""

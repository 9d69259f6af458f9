"""Forecasts by key type, made from counted arrivals and a life table, and the errors of earlier forecasts.

`monitor.growth` reports them; `daily_records` keeps the series that they are made from.
"""

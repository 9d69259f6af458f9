"""Forecasts by type from counted arrivals and a life table, and the errors of earlier ones. `growth` reports them."""

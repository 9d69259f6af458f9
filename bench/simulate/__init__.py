"""Months of traffic through the real store in seconds, and the forecasts that are checked against them."""

"""Months of traffic through the real store in seconds, and the forecasts held to them."""

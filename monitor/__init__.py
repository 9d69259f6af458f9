"""Maintenance and monitoring of a key store: sweeps, reports, forecasts, alerts, transfers and the Telegram bot.

The API, the service and the commands call it. It imports keystore only.
"""

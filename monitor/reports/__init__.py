"""Reports as values, with renderings as text and JSON. Commands, API, alerts and Telegram bot call it."""

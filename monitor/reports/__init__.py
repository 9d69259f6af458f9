"""Reports as values, and two of their renderings: terminal and JSON. Commands, page and Telegram bot call it."""

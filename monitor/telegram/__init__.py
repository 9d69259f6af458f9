"""The Telegram bot: commands and reports in a chat, and delivery of notices. run.py, service and `doctor` use it."""

"""The Telegram bot: the watch's reports in a chat, and the one way that notices go out."""

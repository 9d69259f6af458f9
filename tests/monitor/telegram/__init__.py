"""Tests of the Telegram bot, against a server that speaks Telegram's protocol."""

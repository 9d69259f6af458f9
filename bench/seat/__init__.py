"""Measures stores from the bot's seat: inside Node, where bots live, with the program `seat.mjs`."""

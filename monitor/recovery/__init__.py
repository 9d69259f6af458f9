"""Brings back deleted states, makes a database safe that went back, and erases companies."""

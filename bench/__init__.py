"""Measurements: the diary's data set, ratios against bare drivers, and what the schema's choices cost."""

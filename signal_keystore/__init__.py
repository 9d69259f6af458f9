"""The entry points of the installed program. A wheel has run.py, settings.py and the parts above `monitor` here too."""

"""The entry points of the installed program. A wheel puts run.py, settings.py and the parts above `monitor` here too."""

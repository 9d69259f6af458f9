"""The SQLite backend: its store, its statements and its link to SQLite. It is opened through `open_store`."""

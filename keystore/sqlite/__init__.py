"""The SQLite backend: its statements, its store, its link to the file. Opened through `keystore.open_store`."""

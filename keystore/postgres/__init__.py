"""The PostgreSQL backend: its statements, its store, its link to psycopg. Opened through `keystore.open_store`."""

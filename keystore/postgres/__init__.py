"""The PostgreSQL backend: its store, its statements and its link to psycopg. It is opened through `open_store`."""

"""The fixtures that every test may ask for; each lives in a `fix_*.py` that says what it is for."""

pytest_plugins = [
    "tests.fix_clock",
    "tests.fix_proxy",
    "tests.fix_postgres",
    "tests.fix_pgbouncer",
    "tests.fix_telegram",
]

"""The fixtures that every test may ask for; each lives in a `fix_*.py` that says what it is for."""

pytest_plugins = [
    "rig.fixtures.clock",
    "rig.fixtures.relay",
    "rig.fixtures.postgres",
    "rig.fixtures.pgbouncer",
    "rig.fixtures.telegram",
]

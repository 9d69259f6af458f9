# `just` lists the recipes; each is one command that works without just as well.

# List the recipes.
default:
    @just --list

# Every test.
test:
    python -m pytest -n auto --dist loadgroup

# The everyday subset.
test-fast:
    python -m pytest -n auto --dist loadgroup -m "not slow"

# Lint, format, types, plain English.
lint:
    ruff check . && ruff format --check . && mypy && python -m tests.house.plain_english

# Measure every target and write the figures into the documentation.
figures:
    python -m bench.targets --json docs/figures/targets.json; python -m bench.report.tables

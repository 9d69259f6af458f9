"""The figures of `bench.targets` as one HTML page, and as tables in the documentation."""

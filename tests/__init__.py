"""The tests, one package so that fixtures and workers can be imported by name."""

"""Tests of a worker: its config, its turns and limits, slow clients and hostile requests."""

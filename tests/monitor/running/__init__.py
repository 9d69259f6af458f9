"""Tests of the job loop and bounded calls."""

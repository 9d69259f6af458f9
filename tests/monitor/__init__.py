"""Tests of `monitor/`, in the same rooms."""

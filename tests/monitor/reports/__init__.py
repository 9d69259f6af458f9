"""Tests of the reports and their terminal rendering."""

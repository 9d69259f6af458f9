"""Sealed values: what a stolen database gives away, what is refused, rotation, and values that can't be read."""

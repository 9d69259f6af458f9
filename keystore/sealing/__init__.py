"""Sealed values: their format, the keys around them, and the parts of a store that seal, open and rotate.

`docs/sealing.md` describes all of it. Only a store that has secret keys imports `sealed_form`, and `cryptography`
with it.
"""

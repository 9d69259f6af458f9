"""What every backend must do, written against `keystore/store.py` alone and run on each of them."""

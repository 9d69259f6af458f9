"""Work that an operator starts with a command: expiries for old keys, mis-split rows, the demo data set."""

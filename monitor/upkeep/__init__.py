"""Work that an operator starts by a command: expiries for old keys, mis-split rows, the demo data set."""

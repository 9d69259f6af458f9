"""The parts that both SQL backends share. Only the two backends, opening and migrating use them."""

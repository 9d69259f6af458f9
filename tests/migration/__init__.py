"""What must hold when tables are made, adopted, attached to and upgraded: on real databases, with real processes."""

"""A company's state in and out of a Baileys folder or our archive, verified key by key. Commands call it."""

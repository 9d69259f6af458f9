"""Import and export of a company's state as a Baileys folder or an archive, verified key by key; for the commands."""

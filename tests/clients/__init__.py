"""The Baileys client: its own tests, and bots with real Baileys in processes of their own. Needs Node 20 and npm."""

"""Tests of the Baileys client: its own tests, and bot processes with real Baileys. They need Node 20 and npm."""

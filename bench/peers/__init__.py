"""The store against what bots use without it: Baileys' own files, and the legacy adapter (`legacy.mjs`)."""

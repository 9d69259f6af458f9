"""The store beside what bots use without it: Baileys' files and a legacy-shaped `pg` adapter."""

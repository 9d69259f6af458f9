"""Values: their stored form, and the shape that Baileys gives each type, for imports and adoption."""

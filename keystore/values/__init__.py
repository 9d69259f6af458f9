"""The shape of each type's value as Baileys reads it; import and adoption hold foreign values against it."""

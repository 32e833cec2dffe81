"""Model files: where they come from, what is in them, how their text becomes tokens."""

"""The account: where every cycle goes, and what it could be."""

"""What happens to a sequence tick by tick: its place in the KV pages, its next token, its stop."""

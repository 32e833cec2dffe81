"""What writes the plain program of one family of models."""

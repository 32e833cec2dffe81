"""What a model did: where it looked, what each layer would have said, which tokens it needed."""

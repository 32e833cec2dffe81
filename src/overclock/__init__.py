"""overclock: run a language model on the computer one has, and see where every cycle goes."""

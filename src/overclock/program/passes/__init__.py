"""Rewrites of a program, one a file, each switched on and off by its name."""

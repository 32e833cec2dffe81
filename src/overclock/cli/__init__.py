"""The command line: one file a command, which parses words and calls the rest."""

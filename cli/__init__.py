"""The command line: one file per command. Each parses, makes one library call, prints."""

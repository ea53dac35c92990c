"""The `paywave` command: thin. It parses, calls a room, and prints; it decides nothing."""

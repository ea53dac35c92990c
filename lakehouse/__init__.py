"""The system of record: table definitions, the publish protocol, the fold, reading back. May import `quality`."""

"""The system of record: tables, the publish protocol, the fold, reading back. May import `quality`."""

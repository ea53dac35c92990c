"""What partners' hours look like: counted from raw, and compared with their history."""

"""Maintenance of the tables: few large files, few snapshots, and no file that nobody knows."""

"""Redrive: records of quarantine sent again, and what their headers say of the first ones (docs/adr/0020)."""

"""Reconciliation: every record accounted for, from Kafka's offsets to transactions and partners' totals."""

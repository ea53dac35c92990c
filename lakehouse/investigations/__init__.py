"""Investigations: the whole story of an event, a transaction or an account, with little of the lake read."""

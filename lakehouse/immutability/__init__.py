"""Immutability of the object store: Object Lock, versioning and a policy against deletion, as code."""

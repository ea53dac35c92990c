"""Schemas as code: their files, the registry, and fields that partners send beside the contract."""

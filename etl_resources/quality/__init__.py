"""Contracts as SQL rules, dead letters, the content hash."""

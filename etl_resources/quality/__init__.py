"""Contracts as SQL rules, checks of what was written, the content hash."""

"""Serving stores outside the lake: stage beside the target, publish in one transaction."""

"""Schedules, and later sensors: what asks for runs."""

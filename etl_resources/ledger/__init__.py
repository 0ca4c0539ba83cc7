"""Intents, epochs, publishes and captures in Postgres."""

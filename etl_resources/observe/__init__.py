"""What the platform tells of itself to monitoring. Reads the ledger; changes nothing, and no run depends on it."""

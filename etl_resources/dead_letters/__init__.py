"""Rejected rows: how a letter is made, where letters are kept, which of them are visible, how they are cleaned away.

No verbs of people (etl_assets/letters, etl_assets/replay) and no rules (quality).
"""

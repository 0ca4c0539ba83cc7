"""Tests of transforms as data: rows given, rows expected, run by the product's own transform in memory.

Reading and typing the files, running them, telling differences. No server, no Dagster, nothing is published.
"""

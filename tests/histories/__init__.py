"""Histories of changes in all three kinds of sources, played on the product, and what is right after them.

Here: the sources (sources), the changes (changes), the judge in plain Python that shares no code with the product
(oracle), and how a history is played and judged (play). Tests that do it: tests/fault/test_histories.py.
"""

"""Timings and peak memory on the real stack. Never part of the tests; results are kept in results/."""

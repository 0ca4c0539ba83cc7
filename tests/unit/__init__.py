"""Tests without servers, a few seconds all together. A package: tests/integration has modules of the same name."""

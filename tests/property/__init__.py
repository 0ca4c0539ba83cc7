"""Properties by Hypothesis, no servers. A package: modules here share their names with those of other folders."""

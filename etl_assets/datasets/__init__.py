"""One folder per dataset: its manifest and its transforms, the only place where a dataset lives."""

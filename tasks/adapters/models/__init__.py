"""Model files: weights with their digests, ensembles, temperatures."""

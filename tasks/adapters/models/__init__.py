"""Model files: weights with their digests, ensembles, recalibration."""

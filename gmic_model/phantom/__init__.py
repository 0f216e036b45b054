"""Synthetic mammograms, drawn from a seed."""

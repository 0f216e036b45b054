"""Verbs of a model's life at a site."""

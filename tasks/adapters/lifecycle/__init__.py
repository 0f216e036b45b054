"""The life of a model at a site: what becomes of trained weights."""

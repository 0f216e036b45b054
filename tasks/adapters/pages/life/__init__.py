"""Pages about a model's life at a site."""

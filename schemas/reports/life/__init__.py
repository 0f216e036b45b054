"""What is written of a model's life at a site."""

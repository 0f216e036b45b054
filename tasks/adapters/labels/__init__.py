"""Labels and lesion boxes of the user, and how they are joined to images."""

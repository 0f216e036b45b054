"""One module for each data set: what its files may break, and where they say whom they show."""

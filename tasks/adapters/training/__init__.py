"""One training process: what it is asked for, its loop, and what is logged of it."""

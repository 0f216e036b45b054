"""Scores beside something else: the original read of the same breasts, and one group of breasts beside another."""

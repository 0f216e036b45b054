"""Data checks on what was published and on how it was split."""

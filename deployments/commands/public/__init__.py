"""Verbs about what others have published."""

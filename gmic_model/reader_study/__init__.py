"""Radiologists and networks on the same cases."""

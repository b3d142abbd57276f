"""Concatenation and stacking."""

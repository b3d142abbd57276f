"""Norms over the input's own statistics."""

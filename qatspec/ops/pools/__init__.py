"""Pooling by sliding and adaptive windows."""

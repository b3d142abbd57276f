"""Layers that compute each step of a sequence from the one before it."""

"""Sums of all numbers up to a place along a dim."""

"""Sums, means, maxima and their places along whole dims."""

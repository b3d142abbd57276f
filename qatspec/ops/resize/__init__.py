"""Resizing of feature maps."""

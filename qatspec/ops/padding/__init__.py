"""Padding by a constant or by the tensor's own values."""

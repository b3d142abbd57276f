"""Sizes and other attributes of tensors."""

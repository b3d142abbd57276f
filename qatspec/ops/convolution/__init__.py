"""Convolutions, transposed ones and linear layers."""

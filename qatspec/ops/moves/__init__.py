"""Ops that move numbers and compute none: reshape, permute, slicing."""

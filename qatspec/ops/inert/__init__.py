"""Ops that change nothing in evaluation."""

"""Rows of a table, by indices."""

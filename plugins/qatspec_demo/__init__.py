"""Data sets that need no download: what the quickstart trains on."""

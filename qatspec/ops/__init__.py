"""Families of ops: one folder a family, with all that qatspec knows of its ops."""

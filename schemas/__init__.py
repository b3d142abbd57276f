"""The JSON Schemas of qatspec, as package data."""

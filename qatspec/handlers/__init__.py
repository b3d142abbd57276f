"""Quant handlers: an op's whole life (annotate, lower, reference), one file an op family.

Nothing is imported here: `qatspec.handlers.plugin` names the functions, the registry finds them.
"""

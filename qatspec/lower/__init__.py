"""Lowering: a prepared model to a Program of integers. `pipeline` reads top to bottom."""

from qatspec.lower.pipeline import NotLowered as NotLowered, lower as lower

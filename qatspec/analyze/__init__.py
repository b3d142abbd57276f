"""Why accuracy changed: comparisons of one model's forms."""

from qatspec.analyze.compare import LayerError, compare_layers, sqnr

__all__ = ["LayerError", "compare_layers", "sqnr"]

"""fx tools and the Prepared model."""

from qatspec.graph.prepared import Decision, Prepared

__all__ = ["Decision", "Prepared"]

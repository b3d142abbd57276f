"""fx tools and the Prepared model."""

from qatspec.graph.prepared import Decision, DecisionKind, Prepared

__all__ = ["Decision", "DecisionKind", "Prepared"]

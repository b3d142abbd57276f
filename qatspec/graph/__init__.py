"""fx tools and the Prepared model."""

from qatspec.graph.prepared import (
    Decision as Decision,
    DecisionKind as DecisionKind,
    Prepared as Prepared,
)

"""The size of the batch may be a size of other tensors in forward, and nothing else."""

from __future__ import annotations

from torch import fx, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS512
from qatspec.graph.batch import Batch
from qatspec.graph.sizes import fixed, is_plain
from qatspec.graph.source import line_span


def check_batch_sizes(root: nn.Module, graph: fx.Graph) -> None:
    """Refuse a model that decides or computes by the number of images in its batch: a compiled
    model has no such number, and the last batch of an epoch has another one.

    Raises DiagnosticError QS512 with every place.
    """
    if not any(n.op != "placeholder" and is_plain(n.meta.get("example")) for n in graph.nodes):
        return
    batch, refusals = Batch(root, graph), []
    for node in graph.nodes:
        if node.target is fixed:
            if batch.differs(node.args[0]):
                refusals.append(_refused(str(node.args[2]), "decides by", _DECIDES))
        elif batch.is_open and batch.computes_with_it(node):
            refusals.append(_refused(str(node.meta.get("source", "")), "computes with", _COMPUTES))
    if refusals:
        raise DiagnosticError(list(dict.fromkeys(refusals)))


_DECIDES = (
    "write the step for all images at once instead of one by one or by their number: every op "
    "takes the whole batch, `x.view(x.shape[0], ...)` and `x.flatten(1)` keep it open"
)
_COMPUTES = (
    "use the sizes of one image, such as `x.shape[1:].numel()` for `x.numel()`, or move the step "
    "out of forward"
)


def _refused(source: str, does: str, help_: str) -> Diagnostic:
    return QS512.diagnostic(
        f"forward {does} the number of images in the batch, which differs from call to call",
        help=help_,
        span=line_span(source),
    )

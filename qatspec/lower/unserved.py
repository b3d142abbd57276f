"""Why an op that no quant handler knows is refused, where the reason is known, and what to do."""

from __future__ import annotations

from math import prod

from torch import fx

from qatspec.graph.advice import without_integers
from qatspec.graph.assign import assign, replaced
from qatspec.graph.context import GraphContext

_ASSIGNED = "it assigns at positions that follow the input, or to single images of the batch"
_FIXED_POSITIONS = (
    "assign at fixed positions behind the batch (`x[:, 0] = ...`, or indices in a buffer), or "
    "choose with `torch.where`"
)
_UNPOOLED = (
    "it writes at positions that follow the input, which no march does",
    "enlarge with `F.interpolate` or a transposed convolution, and train again",
)
#: The last name of an op that reads its input between pixels -> how many numbers each position
#: takes.
_READS_BETWEEN_PIXELS = {"grid_sample": 4, "grid_sampler": 4, "deform_conv2d": 4}


_CONSTANT_GRID = "sample at constant positions (a grid in a buffer), which are sums of products"
#: What to write in place of such an op.
_INSTEAD = {
    "grid_sample": _CONSTANT_GRID,
    "grid_sampler": _CONSTANT_GRID,
    "deform_conv2d": "use an ordinary convolution (`nn.Conv2d`) in its place and train again",
}


def known_reason(node: fx.Node, name: str, context: GraphContext) -> tuple[str, str] | None:
    """(reason, advice) for an op; None where nothing is known but that no handler takes it.

    name: of the op as a rule names it, `torch.nn.functional.grid_sample`.
    """
    if node.target in (assign, replaced):
        return _ASSIGNED, _FIXED_POSITIONS
    last = name.removesuffix(".default").rpartition(".")[2]
    if last in _READS_BETWEEN_PIXELS:
        numbers = _reads(node, last, context) * _READS_BETWEEN_PIXELS[last]
        reason = (
            "no march reads between pixels, at positions that a tensor names; here it would read "
            f"{numbers} numbers of each image"
        )
        moved = without_integers(None).removeprefix("replace it, or ")
        return reason, f"{_INSTEAD[last]}, serve it by a plugin for a chip that does, or {moved}"
    if last.lower().replace("_", "").startswith("maxunpool"):
        return _UNPOOLED
    return None


def _reads(node: fx.Node, last: str, context: GraphContext) -> int:
    """Positions between pixels, with their channels, that the op reads for one image: for a
    deformable convolution one for each tap of its kernel, in every channel of its operand."""
    shape = context.shape(node)[1:]
    if last != "deform_conv2d":
        return prod(shape)
    channels, taps = context.shape(node.args[0])[1], context.shape(node.args[1])[2:]
    return channels * prod(taps) * prod(shape[1:])

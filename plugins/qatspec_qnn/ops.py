"""Which integer ops Hexagon takes, as found by its compiler: each becomes part of the one context
node (tests/unit/qnn/test_ops.py tries them), or is refused here, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qatspec.api import Verdict

if TYPE_CHECKING:
    from qatspec.api import Op, Program

KINDS = frozenset(
    {
        "affine", "argmax", "clamp", "concat", "conv", "conv_transpose", "divide", "exp_below_max",
        "linear", "lut", "matmul", "max_pool", "mul", "pad", "reduce_max", "reduce_sum", "requant",
        "reshape", "resize_bilinear", "resize_nearest", "slice", "standardize", "sum_pool",
        "transpose",
    }
)  # fmt: skip


_BYTES = ("int8", "uint8", "int4")
#: Dims without the batch of a result that is rounded to more than 8 bits.
_MOST_DIMS = 3


def supports(op: Op, program: Program) -> Verdict:
    """Judge an op by its kind, the dtypes of its operands and its settings."""
    if op.kind not in KINDS:
        return Verdict(False, f"qnn has no {op.kind}")
    reason, fix = _refused(op, program) or ("", "")
    return Verdict(False, f"{op.kind} on qnn: {reason}", fix) if reason else Verdict(True)


def _refused(op: Op, program: Program) -> tuple[str, str] | None:
    """Why the march refuses an op, and what to do."""
    result = program.values[op.output]
    if op.kind == "max_pool" and max(op.attrs["dilation"]) > 1:
        return "a dilated window", "use a pool without dilation"
    if op.kind == "requant" and result.dtype not in _BYTES and len(result.shape) > _MOST_DIMS:
        dims = f"{result.dtype} in {len(result.shape) + 1} dims, with the batch; the most are 4"
        return dims, "quantize it on fewer bits (`activation: {dtype: qint8}`)"
    if op.kind == "linear" and _is_added_to_every_image(op, program):
        return "a constant that is added to every image; its simulator gives other numbers", ""
    return None


def _is_added_to_every_image(op: Op, program: Program) -> bool:
    """Return whether the result is a constant of several numbers: without weights, of biases that
    differ. One number for all places is computed rightly."""
    weight, *biases = (program.consts[name] for name in op.inputs[1:])
    return not weight.any() and any((bias != bias.flat[0]).any() for bias in biases)

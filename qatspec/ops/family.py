"""The helper for every family's `record.py`."""

from __future__ import annotations

from collections.abc import Mapping

from qatspec.types import OpTrait, QuantHandler, lazy

_PREFIXES = {"nn": "torch.nn.", "f": "torch.nn.functional.", "t": "torch.Tensor."}


def handler(
    family: str,
    name: str,
    summary: str,
    ops: Mapping[str, str],
    *traits: OpTrait,
    annotate: str = "annotate",
    lower: str | None = "lower",
    to_onnx: str | None = "to_onnx",
    examples: str | None = "examples",
) -> QuantHandler:
    """Make the record of a handler whose functions are in the folder `family`.

    They are `annotate` and `lower` in quantize.py (lower None: no integer form), `to_onnx` in
    onnx.py and `examples` in example.py, unless other names are given.

    ops: canonical name -> its spellings, "nn:ReLU f:relu t:relu_ torch.relu operator.neg".
    """
    folder = f"qatspec.ops.{family}"
    return QuantHandler(
        name=name,
        summary=summary,
        ops=tuple(ops),
        spellings={op: tuple(map(_spelled_out, names.split())) for op, names in ops.items()},
        traits=frozenset(traits),
        annotate=lazy(f"{folder}.quantize:{annotate}"),
        lower=None if lower is None else lazy(f"{folder}.quantize:{lower}"),
        to_onnx=None if to_onnx is None else lazy(f"{folder}.onnx:{to_onnx}"),
        examples=None if examples is None else lazy(f"{folder}.example:{examples}"),
    )


def _spelled_out(name: str) -> str:
    short, colon, rest = name.partition(":")
    return _PREFIXES[short] + rest if colon else name

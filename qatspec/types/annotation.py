"""What a quant handler says of a node: intent only, the graph is never touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Observed:
    """The output has a range of its own: a fake-quant with an observer."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The output has exactly the scale of its tensor argument number `input`: the op moves numbers
    (max-pool, reshape, nearest resize, ...). plugins/README.md has an example with its `lower`:

        Annotation(output=Shared(), kind="passive")
    """

    input: int = 0


@dataclass(frozen=True, slots=True)
class Fixed:
    """The output has a scale known beforehand."""

    scale: float


@dataclass(frozen=True, slots=True)
class Float:
    """The op stays in float, with the stated reason."""

    reason: str


Intent = Observed | Shared | Fixed | Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """Intent for one node (or one fused group, decided by its anchor).

    output     how the result is quantized.
    inputs     positions of tensor arguments that must be quantized.
    kind       anchor: decides for the ops that are fused behind it; passive: moves numbers;
               elementwise: any other.
    has_weight the op owns a weight that is fake-quantized per output channel.
    int32_tail the op can leave its accumulator unquantized (conv, linear) (rule: int32 tails).
    """

    output: Intent = field(default_factory=Observed)
    inputs: tuple[int, ...] = (0,)
    has_weight: bool = False
    kind: Literal["anchor", "elementwise", "passive"] = "elementwise"
    int32_tail: bool = False

"""Prepared: a model with fake-quants in place, and who decided each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from qatspec.diag import Diagnostic
from qatspec.spec import Call
from qatspec.types import QSpec

if TYPE_CHECKING:
    from torch import nn


class DecisionKind(str, Enum):
    """How an op and its result are quantized. The values stand in the files that hold decisions.

    OBSERVED     a fake-quant of its own, whose scale is observed or learned.
    FIXED        a fake-quant of its own, whose scale the spec or the op fixes.
    SHARED       on the scale of an operand: the op only moves numbers.
    TAIL         an int32 output that is not requantized; its fake-quant is switched off.
    PRODUCER     an input that is quantized where it is computed, outside of the prepared module.
    STANDALONE   a module that is prepared by itself and quantizes its own result.
    FLOAT        the op computes in float: by a rule, or because nothing quantized reads an input.
    FLOAT_INPUT  the op only moves numbers, and its operand is in float.
    UNSUPPORTED  the op computes in float because it has no quantized form.

    The result of an op that computes in float may have a fake-quant (`Decision.fake_quant`) all the
    same, where a quantized op reads it.
    """

    OBSERVED = "observed"
    FIXED = "fixed"
    SHARED = "shared"
    TAIL = "tail"
    PRODUCER = "producer"
    STANDALONE = "standalone"
    FLOAT = "float"
    FLOAT_INPUT = "float_input"
    UNSUPPORTED = "unsupported"

    @property
    def computes_in_float(self) -> bool:
        """Whether the op itself computes in float."""
        return self in _IN_FLOAT


_IN_FLOAT = (DecisionKind.FLOAT, DecisionKind.FLOAT_INPUT, DecisionKind.UNSUPPORTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of one graph node and why.

    node        "<module path>:<node name>", unique in the model ("backbone:conv_3").
    kind        how the op and its result are quantized.
    op          canonical op name of the anchor ("conv2d").
    module      absolute path of the module that owns the op ("backbone.stem.conv"), "" for a
                functional op at the top.
    group       every node fused under this anchor, itself first; ops: their canonical names.
    activation, weight: the resolved QSpec, None = float.
    fake_quant  absolute path of the activation's fake-quant module, None when shared or float.
    rule        pointer of the winning rule in the spec ("" when given through the API).
    losers      pointers of the rules that matched and lost.
    cause       why the op computes in float, in words; "" where it does not.
    reason      the whole decision in words: "observed", "shares conv_2's scale", "float: layer
                norm …", "int32 tail". For people: programs read `kind` and `cause`.
    source      "file:line" of the model's code, "" when unknown.
    """

    node: str
    kind: DecisionKind
    op: str
    module: str
    group: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    activation: QSpec | None = None
    weight: QSpec | None = None
    fake_quant: str | None = None
    rule: str = ""
    losers: tuple[str, ...] = ()
    cause: str = ""
    reason: str = ""
    source: str = ""


@dataclass(slots=True, kw_only=True)
class Prepared:
    """model: an ordinary trainable nn.Module (the prepared children are fx GraphModules).

    decisions: node -> Decision. march: the march whose arithmetic and special cases apply, None =
    generic. modules: absolute paths that were prepared ("" = the whole model). input_scale: the
    fixed scale of the model's input, if one. warnings: what did not fuse, rules that matched
    nothing, ... as diagnostics. example_inputs: as `prepare` was given them; only their structure
    and shapes count. calls: every op as rules see it, in graph order. quantized_classes: qualified
    name of an observed custom class -> the class that takes its place in the deploy model. stage:
    as `set_stage` left it.
    """

    model: nn.Module
    decisions: Mapping[str, Decision]
    march: str | None = None
    modules: tuple[str, ...] = ("",)
    input_scale: float | None = None
    warnings: tuple[Diagnostic, ...] = field(default_factory=tuple)
    stage: str = "calibration"
    example_inputs: tuple[Any, ...] = ()
    calls: tuple[Call, ...] = ()
    quantized_classes: Mapping[str, Any] = field(default_factory=dict)

"""Check whether the march can run the Program: every op is compared with the march's limits
(`qatspec.types.capabilities`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

from qatspec.backend.cost import macs
from qatspec.backend.target import Target
from qatspec.diag import Diagnostic, DiagnosticError, Note, Span, grouped
from qatspec.diag.codes import QS801
from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program
from qatspec.types import Limit, OpSupport, Verdict

_IN_FLOAT = "end the quantized modules before it (`quantize: modules`): it then runs in float"
#: What to do about the kinds that few marches have, in words of the model.
FIXES: Mapping[str, str] = {
    "standardize": "use a batch norm, which is folded into the convolution before it",
    "exp_below_max": "use a sigmoid, or move it into `predict` where it ends the model",
    "argmax": "return the scores and take their places in `predict`",
    "divide": "divide by a constant, or move it into `predict` where it ends the model",
    "matmul": _IN_FLOAT,
    "lut": f"use a relu or a clamp where it is an activation, or {_IN_FLOAT}",
}
_MEAN = (
    "take the mean over the dims (`x.mean((2, 3), keepdim=True)`) where the window is the whole "
    "picture, else use a smaller window"
)
_FEWER_BITS = "quantize it on fewer bits (`activation: {dtype: qint8}`)"
_FIT = "change the module to fit the limit"
#: What to do about a measure beyond its limit, where a smaller one is no advice.
LIMIT_FIXES: Mapping[str, str] = {
    "stride_with_dilation": "give it stride 1 and take every second place behind it "
    "(`y[:, :, ::2, ::2]`), which are the same numbers",
    "stride_with_residual": "give it stride 1 or 2, or take the residual's sum out",
    "kernel_volume": "make its kernel smaller, or give it more groups or fewer input channels",
    "area": "take the mean or the sum of parts of the picture first, by a pool",
}
_WEIGHTS = "quantize its weights on 8 bits (`weight: {dtype: qint8}`)"
#: What to do about an op of the model that is several integer ops, where each of its refused parts
#: has no advice of its own. Every march has what is proposed.
OP_FIXES: Mapping[str, str] = {
    "interpolate": (
        "enlarge by a power of two with `scale_factor`, in mode 'nearest' or 'bilinear', without "
        "`align_corners` and `antialias`, and make smaller with a pool or a convolution's stride"
    ),
    "avg_pool": _MEAN,
    "add": (
        "give both operands the same size: `F.interpolate` by a power of two, cut to the size by a "
        "slice"
    ),
}


def verdict(op: Op, program: Program, target: Target) -> Verdict:
    """Judge whether a march can run an op.

    op       the op.
    program  the Program that it is part of.
    target   the march.

    Returns a Verdict with the reason of a refusal. What the march leaves to the CPU is no refusal.
    """
    if target.on_host(op) is not None:
        return Verdict(True)
    rules = target.ops.get(op.kind)
    if rules is None:
        return Verdict(False, f"{target.march} has no {op.kind}", FIXES.get(op.kind, _IN_FLOAT))
    measures = measure(op, program)
    broken = {reason: limit for limit in rules.limits if (reason := _broken(limit, measures))}
    reasons = [f"{op.kind} on {target.march}: {reason}" for reason in broken]
    fixes: list[str] = []
    for told, has_instead, fix in reversed(list(_wrong_dtypes(op, program, rules))):
        reasons.insert(0, f"{op.kind} {told}: {target.march} {has_instead}")
        fixes.insert(0, fix)
    if not reasons:
        return Verdict(True)
    if any(fixes) and broken:  # another dtype alone would lead to the next refusal
        fixes.append(_FIT)
    elif broken:
        fixes = [_within(op.kind, limit) for limit in broken.values()]
    return Verdict(False, "; ".join(reasons), ", and ".join(filter(None, dict.fromkeys(fixes))))


def _within(kind: str, limit: Limit) -> str:
    """The change of a module that brings it within a limit; empty where FIXES and OP_FIXES say."""
    if limit.of in ("scale_factor", "align_corners") or (kind, limit.of) == ("sum_pool", "kernel"):
        return ""
    if limit.of in LIMIT_FIXES:
        return LIMIT_FIXES[limit.of]
    bounds = [f"at least {limit.low}"] if limit.low not in (None, 0, 1) else []
    bounds += [f"at most {limit.high}"] if limit.high is not None else []
    bounds += [f"one of {', '.join(map(str, limit.one_of))}"] if limit.one_of else []
    bounds += ["a power of two"] if limit.power_of_two else []
    return f"make its {limit.of.replace('_', ' ')} {' and '.join(bounds)}"


def _wrong_dtypes(op: Op, program: Program, rules: OpSupport) -> Iterator[tuple[str, str, str]]:
    """Each dtype or form of `op` that the march lacks, what it has in its stead, and the fix."""
    for name in _operands(op, program):
        dtype = program.values[name].dtype
        if dtype not in rules.dtypes:
            fix = _FEWER_BITS if dtype == "int16" else ""
            yield f"of {dtype}", f"takes {', '.join(rules.dtypes)} (`{name}`)", fix
            break
    weight = program.values[op.inputs[1]].dtype if has(op, Trait.WEIGHTED) else None
    if weight is not None and weight not in rules.weights:
        fix = _WEIGHTS if "int8" in rules.weights else ""
        yield f"with {weight} weights", f"takes {', '.join(rules.weights)}", fix
    result = program.values[op.output].dtype
    if rules.results and result not in rules.results:
        fix = _FEWER_BITS if result == "int16" else ""
        yield f"to {result}", f"gives {', '.join(rules.results)}", fix
    form = op.attrs.get("form", "single")
    if op.kind == "requant" and form not in rules.forms:
        yield f"of the form {form}", f"has {', '.join(rules.forms)}", ""


def legalise(program: Program, target: Target, *, chip_only: bool) -> None:
    """Hold every op against the march. Raises DiagnosticError QS801 with all that do not fit, among
    them, where it must run on the chip alone, those that the march leaves to the CPU."""

    def answer(op: Op) -> Verdict:
        reason = target.on_host(op) if chip_only else None
        if reason is None:
            return verdict(op, program, target)
        return Verdict(False, f"runs on the CPU: {reason}", fix="take out `chip_only`")

    problems = refusals(((op, answer(op)) for op in program.ops), program=program)
    if problems:
        raise DiagnosticError(problems)


def refusals(
    answers: Iterable[tuple[Op, Verdict]],
    span_of: Callable[[str], Span | None] = lambda _: None,
    *,
    program: Program | None = None,
) -> list[Diagnostic]:
    """QS801 once for each of the model's ops that is refused, whatever number of integer ops it is
    made of and of modules' calls it is refused in.

    span_of: the line of the model's code from "file:line", None where its file is not known.
    program: what the ops are part of; with it, the price of a resize is told."""
    refused: dict[object, list[tuple[Op, Verdict]]] = {}
    parts: dict[object, list[Op]] = {}
    for op, answer in answers:
        one = op.origin if op.origin.node else op.output
        parts.setdefault(one, []).append(op)
        if not answer.ok:
            refused.setdefault(one, []).append((op, answer))
    return grouped(
        dict.fromkeys(
            _refusal(
                refused[one], {op.kind for op in parts[one]}, span_of, _price(parts[one], program)
            )
            for one in refused
        )
    )


def _price(parts: list[Op], program: Program | None) -> str:
    """What a resize by matrices costs; empty for other ops."""
    if program is None or parts[0].origin.op != "interpolate":
        return ""
    products = sum(macs(op, program) for op in parts)
    if not products:
        return ""
    shape = program.values[parts[-1].output].shape
    return (
        f"it is computed by matrices, with {products:,} multiply-adds an image; mode 'bilinear' "
        f"takes {2 ** len(shape[1:]) * prod(shape):,} for the same size"
    )


def _refusal(
    parts: list[tuple[Op, Verdict]],
    kinds: set[str],
    span_of: Callable[[str], Span | None],
    price: str,
) -> Diagnostic:
    """Where the op comes from (module, line of the model, rule of the spec), why, and the fix.

    kinds: all integer ops that the op is made of. price: of a resize, may be empty."""
    if kinds - {"requant"} != {"lut"}:  # a table within a norm is no activation
        parts = [
            (op, replace(answer, fix=_IN_FLOAT) if op.kind == "lut" else answer)
            for op, answer in parts
        ]
    parts = sorted(
        parts, key=lambda part: part[0].kind not in FIXES
    )  # the causes with advice first
    first, _ = parts[0]
    origin = first.origin
    where = f"`{origin.module or origin.node.lstrip(':') or first.output}`"
    kind = "" if not origin.op or origin.op.startswith(first.kind) else f" ({origin.op})"
    fixes = [answer.fix or FIXES.get(op.kind, "") for op, answer in parts]
    general = OP_FIXES.get(re.sub(r"\dd$", "", origin.op), "")  # avg_pool2d: of any number of dims
    if general:  # what is between its parts has the bits that the first one gives
        fixes = [f"{fixes[0].removesuffix(f', and {_FIT}')}, and {general}"] if fixes[0] else []
    others = (FIXES[kind] for kind in sorted(kinds - {"lut"}) if kind in FIXES)
    fix = next(filter(None, [*fixes, general, *others]), _FIT)
    reasons = dict.fromkeys(answer.reason for _, answer in parts)
    span = span_of(origin.source)
    notes = [Note(f"written at {origin.source}")] if origin.source and not span else []
    notes += [Note(price)] if price else []
    notes += [Note("decided by this rule", at=origin.rule)] if origin.rule and span else []
    return QS801.diagnostic(
        f"{where}{kind}: {'; '.join(reasons)}",
        help=f"{fix}, or choose another march",
        at=origin.rule or None,
        span=span,
        notes=tuple(notes),
        subject=where,
    )


def _operands(op: Op, program: Program) -> list[str]:
    """The activations that `op` reads: its inputs that are no constants."""
    return [name for name in op.inputs if name not in program.consts]


def measure(op: Op, program: Program) -> dict[str, tuple[int, ...]]:
    """Return the measures of `op` (qatspec.types.capabilities.MEASURES)."""
    x = program.values[op.inputs[0]].shape
    out = program.values[op.output].shape
    attrs = op.attrs
    measures: dict[str, tuple[int, ...]] = {"channels": (max(x[:1] + out[:1], default=1),)}
    for name in ("kernel", "stride", "dilation", "padding"):
        if name in attrs:
            measures[name] = tuple(attrs[name])
    if has(op, Trait.WEIGHTED):
        weight = program.values[op.inputs[1]].shape
        groups = attrs.get("groups", 1)
        per_group = weight[0] // groups if op.kind == "conv_transpose" else weight[1]
        measures["groups"] = (groups,)
        measures["kernel"] = weight[2:]
        measures["channels_in_per_group"] = (per_group,)
        measures["channels_out"] = (out[-1] if op.kind == "linear" else out[0],)
        measures["kernel_volume"] = (per_group * prod(weight[2:]),)
        if "stride" in measures and max(attrs.get("dilation", (1,))) > 1:
            measures["stride_with_dilation"] = measures["stride"]
        if "stride" in measures and _residual_follows(op, program):
            measures["stride_with_residual"] = measures["stride"]
    if has(op, Trait.REDUCES):
        measures["area"] = (prod(x[axis - 1] for axis in attrs["axes"]),)
    if has(op, Trait.RESIZES):
        pairs = list(zip(attrs["size"], x[1:], strict=True))
        # a factor that is no whole number is written as 0, which no limit on factors allows
        measures["scale_factor"] = tuple(o // i if o % i == 0 else 0 for o, i in pairs)
        measures["align_corners"] = (int(attrs.get("align_corners", False)),)
    return measures


def _residual_follows(op: Op, program: Program) -> bool:
    """Return whether the requantization that follows `op` adds a residual."""
    return any(
        user.kind == "requant" and op.output in user.inputs and len(_operands(user, program)) > 1
        for user in program.ops
    )


def _broken(limit: Limit, measures: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the measures break the limit, or None."""
    values = measures.get(limit.of)
    if not values or measures.get("groups") == (limit.unless_groups,):
        return None
    name = limit.of.replace("_", " ")
    if limit.of == "scale_factor" and 0 in values:
        return f"{name}: a size is not a multiple of the size before"
    shown = "x".join(map(str, values))
    if limit.low is not None and min(values) < limit.low:
        return f"{name} {shown} is below {limit.low}"
    if limit.high is not None and max(values) > limit.high:
        if limit.of == "align_corners":  # 1 where it does, 0 where not
            return "it aligns corners"
        return f"{name} {shown} is above {limit.high}"
    if limit.one_of and any(v not in limit.one_of for v in values):
        return f"{name} {shown} is not one of {', '.join(map(str, limit.one_of))}"
    if limit.power_of_two and any(v < 1 or v & (v - 1) for v in values):
        return f"{name} {shown} is not a power of two"
    return None

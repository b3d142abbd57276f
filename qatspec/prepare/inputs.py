"""The inputs that a spec states, as the arguments of the model's forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS520
from qatspec.diag.words import nearest, quote_list, suggest
from qatspec.source import code_line
from qatspec.source.pointer import join
from qatspec.spec.model import GivenInput, Spec, TensorSpec

_AT = "/model/inputs"
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def forward_inputs(spec: Spec, model: nn.Module) -> dict[str, GivenInput]:
    """The spec's inputs in the order of forward's arguments; `model.input`, which has no name, is
    its first argument.

    Raises DiagnosticError QS520, at once for every name that does not fit."""
    parameters = inspect.signature(model.forward).parameters
    if "" in spec.inputs:
        needed = [p.name for p in parameters.values() if is_needed(p)]
        if len(needed) > 1:
            raise DiagnosticError(_of_several(spec, model, needed))
        return dict(spec.inputs)
    if misfits := _misfits(spec, model, parameters):
        raise DiagnosticError(misfits)
    return {name: spec.inputs[name] for name in parameters if name in spec.inputs}


def example_inputs(
    inputs: Mapping[str, GivenInput], batch: int, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Zeros of the shapes of `inputs`; integers are the number of their range closest to 0."""
    return tuple(
        torch.full((batch, *given.shape), _fill(given), dtype=dtype_of(given), device=device)
        for given in inputs.values()
    )


def random_inputs(
    examples: Sequence[Tensor], inputs: Mapping[str, GivenInput] | None = None
) -> list[Tensor]:
    """Tensors of the shapes and dtypes of `examples`, always the same: uniform in the range that
    `inputs` state, without one in [-1, 1), and integers as in `examples`."""
    generator = torch.Generator().manual_seed(0)
    ranges = [_range(given) for given in inputs.values()] if inputs else [None] * len(examples)
    return [
        _random(example, stated, generator)
        for example, stated in zip(examples, ranges, strict=True)
    ]


def dtype_of(given: GivenInput) -> torch.dtype:
    """The dtype of an input's tensor."""
    name = given.dtype if isinstance(given, TensorSpec) else "float32"
    return {"float32": torch.float32, "int32": torch.int32, "int64": torch.int64}[name]


def _range(given: GivenInput) -> tuple[float, float] | None:
    return given.range if isinstance(given, TensorSpec) else None


def _fill(given: GivenInput) -> float:
    least, most = _range(given) or (0, 0)
    return min(max(0, least), most)


def _random(
    example: Tensor, stated: tuple[float, float] | None, generator: torch.Generator
) -> Tensor:
    if example.dtype.is_floating_point:
        least, most = stated or (-1.0, 1.0)
        drawn = torch.rand(example.shape, generator=generator) * (most - least) + least
        return drawn.to(example.device)
    if stated is None:
        return example
    least, most = (int(number) for number in stated)
    return torch.randint(
        least, most + 1, example.shape, generator=generator, dtype=example.dtype
    ).to(example.device)


def is_needed(parameter: inspect.Parameter) -> bool:
    """Return whether forward cannot be called without this argument."""
    by_name = inspect.Parameter.KEYWORD_ONLY
    has_no_default = parameter.default is inspect.Parameter.empty
    return has_no_default and parameter.kind in (*_BY_POSITION, by_name)


def _of_several(spec: Spec, model: nn.Module, needed: Sequence[str]) -> Diagnostic:
    height, width = spec.inputs[""].shape[-2:]
    first, second, *_ = needed
    return QS520.diagnostic(
        f"forward of `{type(model).__name__}` takes {quote_list(needed)}, and `model.input` is one",
        help=f"write `inputs: {{{first}: {{size: [{height}, {width}]}}, "
        f"{second}: {{shape: [...]}}}}` in place of `input`: pictures have a `size`, other tensors "
        "a `shape`",
        at="/model/input",
        key=True,
        notes=_place_of(model),
    )


def _place_of(model: nn.Module) -> tuple[Note, ...]:
    """A note with the line of forward, where it is code of a file."""
    code = getattr(inspect.unwrap(model.forward), "__code__", None)
    if code is None:
        return ()
    return (Note("forward", span=code_line(code.co_filename, code.co_firstlineno)),)


def _misfits(
    spec: Spec, model: nn.Module, parameters: Mapping[str, inspect.Parameter]
) -> list[Diagnostic]:
    forward = f"forward of `{type(model).__name__}`"
    notes = _place_of(model)
    several = [p.name for p in parameters.values() if p.kind in _SEVERAL]
    taken = [p.name for p in parameters.values() if p.kind in _BY_POSITION]
    written = ", ".join(spec.inputs)
    if several:
        return [
            QS520.diagnostic(
                f"{forward} takes `*{several[0]}`, which has no names",
                help=f"name its arguments: `def forward(self, {written})`",
                at=_AT,
                notes=notes,
            )
        ]
    misfits = []
    meant: set[str] = set()  # arguments whose names are misspelt in the spec
    for name in spec.inputs:
        if name in taken:
            continue
        free = [other for other in taken if other not in (*spec.inputs, *meant)]
        if near := nearest(name, free):
            meant.add(near)
        advice = suggest(name, free) if free else f"delete it: forward takes {quote_list(taken)}"
        kind = "takes it by keyword alone" if name in parameters else "has no such argument"
        if name in parameters:
            advice = f"let forward take it by position: `def forward(self, {written})`"
        misfits.append(
            QS520.diagnostic(
                f"input `{name}`: {forward} {kind}",
                help=advice,
                at=join(_AT, name),
                key=True,
                notes=notes,
            )
        )
    last = max((taken.index(name) for name in spec.inputs if name in taken), default=-1)
    for position, name in enumerate(taken):
        needed = is_needed(parameters[name])
        if name in (*spec.inputs, *meant) or not (needed or position < last):
            continue
        why = ", and the spec does not state it"
        if not needed:
            why = f" in front of `{taken[last]}`, and the spec does not state it"
        misfits.append(
            QS520.diagnostic(
                f"{forward} takes `{name}`{why}",
                help=f"add `{name}: {{shape: [...]}}` (or `size` of a picture) to `model.inputs`"
                + ("" if needed else ", or move the argument behind the others"),
                at=_AT,
                key=True,
                notes=notes,
            )
        )
    return misfits

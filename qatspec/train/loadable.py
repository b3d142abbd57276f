"""What a file's tensors must be to be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from qatspec.diag import Span
from qatspec.diag.codes import QS955, QS956
from qatspec.diag.words import quote_list
from qatspec.quant.fake_quant import is_usable_scale
from qatspec.quant.state import fake_quant_keys

#: What an observer's range holds before anything was seen; the opposite infinity is damage.
_UNSEEN = {"min_val": float("inf"), "max_val": float("-inf")}


def require_loadable(model: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Raise DiagnosticError QS955 naming the tensors of `state` that the model cannot take: not
    finite in the model's dtype, a negative variance, a scale that is not positive, integers or
    complex numbers for floats. A buffer that is not finite in the model itself (a mask of -inf)
    may be so in the file."""
    expected = model.state_dict()
    fake_quants = fake_quant_keys(expected)
    problems = {}
    for key, value in state.items():
        if problem := _problem(key, value, expected[key], state, key in fake_quants):
            problems[key] = problem
    if problems:
        first = next(iter(problems))
        raise QS955.error(
            f"`{source.name}` holds numbers that cannot be loaded: `{first}` "
            f"{problems[first]}"
            + (f" (and {len(problems) - 1} more: {_rest(problems)})" if len(problems) > 1 else ""),
            help="use an earlier checkpoint, or train again with a lower learning rate",
            span=Span(file=str(source)),
        )


def _rest(problems: Mapping[str, str]) -> str:
    return quote_list(list(problems)[1:])


def _problem(
    key: str, value: Tensor, expected: Tensor, state: Mapping[str, Tensor], of_fake_quant: bool
) -> str:
    if not expected.is_floating_point():
        return ""
    if not value.is_floating_point():
        return f"is of {value.dtype}, where {expected.dtype} is expected"
    owner, _, name = key.rpartition(".")
    if of_fake_quant:
        if name in _UNSEEN:
            allowed = value.isfinite() | (value == _UNSEEN[name])
            return "" if allowed.all() else "is not a range of finite numbers"
        range_seen = state.get(f"{owner}.range_seen")
        unusable = ~is_usable_scale(value.float(), 0)
        if name == "scale" and (range_seen is None or range_seen.any()) and unusable.any():
            return f"is not a scale: {value.reshape(-1)[unusable.reshape(-1)][0].item():g}"
        return ""
    spoilt = ~value.to(expected.dtype).isfinite()
    if spoilt.any() and not torch.equal(spoilt, ~expected.isfinite().to(spoilt.device)):
        what = "NaN" if value.isnan().any() else "numbers beyond float32"
        what = "infinity" if value.isinf().any() and what != "NaN" else what
        return f"holds {what} ({int(spoilt.sum())} of {value.numel()} numbers)"
    if name == "running_var" and (value < 0).any():
        return f"is a variance and negative ({value.min().item():g})"
    return ""


def has_shape(value: Tensor, expected: Tensor) -> bool:
    """Return whether a tensor is of the expected shape, or lacks or has sizes of 1 beside it: the
    weight of a linear layer and that of a 1x1 convolution hold the same numbers."""
    if value.ndim == expected.ndim:
        return value.shape == expected.shape
    return [n for n in value.shape if n != 1] == [n for n in expected.shape if n != 1]


def require_overlap(model: nn.Module, weights: Mapping[str, Tensor], source: Path, at: str) -> None:
    """Raise DiagnosticError QS956 where no tensor of a file would be loaded. at: the pointer of the
    key map."""
    expected = model.state_dict()
    if weights and expected and not any(key in expected for key in weights):
        raise QS956.error(
            f"no key of `{source.name}` (`{next(iter(weights))}`, ...) is one of the "
            f"model's (`{next(iter(expected))}`, ...), so nothing would be loaded",
            help="give the keys the model's names with `solver.key_map`",
            at=at,
        )

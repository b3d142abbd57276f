"""Weights that a file or another process gives: under the model's names, in its shapes and
dtypes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS610, QS902
from qatspec.graph import Prepared
from qatspec.language import default
from qatspec.quant.fake_quant import NOT_FINITE
from qatspec.train.checkpoint import load_weights
from qatspec.train.key_maps import KeyMap, mapped
from qatspec.train.loadable import has_shape, require_overlap
from qatspec.train.prefixes import without_prefixes
from qatspec.train.weights import read_weights, weights_in


@dataclass(frozen=True, slots=True)
class Given:
    """What `load_state` did.

    told      what was recognised in the weights and done to them, a sentence each.
    warnings  such as scales that were converted to another dtype (QS940).
    """

    told: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()


def load_state(
    target: Prepared | nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    entry: str | None = None,
    key_map: KeyMap = None,
    fresh: Sequence[str] = default("float_solver", "fresh"),
    allow_miss: bool = default("float_solver", "allow_miss"),
    ignore_extra: bool = default("float_solver", "ignore_extra"),
    at: str | None = None,
) -> Given:
    """Load weights, and the scales of a calibration where the source holds them, strictly.

    target   a prepared model, of any stage and any quantization, or a float model. Scales of
             another dtype are converted (rule: scales of another dtype); an observer of another
             kind keeps its own state.
    source   a file of torch.save or safetensors, a checkpoint of a stage, or what `state_dict()`
             of another model returned. Files are read without running code from them.
    entry, key_map, fresh, allow_miss, ignore_extra: as in `solver` of the spec's float stage.
    at       pointer of the solver that asks for it; None outside a spec.

    Returns what was recognised and converted. Raises DiagnosticError: QS901, QS905, QS915, QS960
    (the file cannot be read, or is ambiguous), QS610 (activations that were not finite in its
    calibration), QS902 (it does not fit), QS941 (scales without their dtype), QS955 (numbers that
    are not finite), QS956 (nothing would be loaded).
    """
    model = target if isinstance(target, nn.Module) else target.model
    if isinstance(source, Mapping):
        path = Path("the given state")
        file = weights_in(source, path, entry, at)
    else:
        path = Path(source)
        file = read_weights(path, entry, at)
    _require_finite_calibration(file.tensors, path, at)
    weights = mapped(file.tensors, key_map, model, source=path, at=f"{at or ''}/key_map")
    recognized = _recognized(weights, model, fresh, path, at or "")
    if allow_miss and ignore_extra:
        require_overlap(model, recognized.weights, path, f"{at or ''}/key_map")
    warnings = load_weights(
        model,
        recognized.weights,
        source=path,
        allow_miss=allow_miss,
        ignore_extra=ignore_extra,
        optional=recognized.fresh,
        names=recognized.names,
    )
    return Given((*file.told, *recognized.told), (*file.warnings, *warnings))


def _require_finite_calibration(
    weights: Mapping[str, Tensor], source: Path, at: str | None
) -> None:
    marks = f".{NOT_FINITE}"
    spoilt = [key.removesuffix(marks) for key in weights if key.endswith(marks)]
    if spoilt:
        more = f", and {len(spoilt) - 1} more behind it" if len(spoilt) > 1 else ""
        raise QS610.error(
            f"in the calibration that `{source}` comes from, what fake-quant `{spoilt[0]}` was fed "
            f"was not finite on at least one batch{more}",
            help="remove the images that cause it from the calibration data or correct the op, "
            "calibrate again, and load that state",
            at=at,
        )


@dataclass(frozen=True, slots=True)
class _Recognized:
    """names: key -> what it was in the file; fresh: keys of the model that are not loaded; told:
    what was done, in sentences."""

    weights: dict[str, Tensor]
    names: Mapping[str, str]
    fresh: frozenset[str]
    told: tuple[str, ...]


def _recognized(
    weights: Mapping[str, Tensor], model: nn.Module, fresh: Sequence[str], source: Path, at: str
) -> _Recognized:
    """Take the prefixes of wrappers from the keys of `weights`, and the sizes of 1 that the model
    does not have from their shapes."""
    expected = model.state_dict()
    kept = _fresh(fresh, expected, f"{at}/fresh")
    renamed = without_prefixes(weights, expected, source, at)
    taken = {k: weights[name] for k, name in renamed.names.items() if not _matches(fresh, k)}
    told = [*renamed.told]
    for key, value in taken.items():
        target = expected.get(key)
        if target is not None and target.shape != value.shape and has_shape(value, target):
            taken[key] = value.reshape(target.shape)
            told.append(f"`{key}` {tuple(value.shape)} became {tuple(target.shape)}")
    told += _casts(taken, expected)
    if kept:
        told.append(f"{len(kept)} keys keep their own initialisation")
    return _Recognized(taken, renamed.names, kept, tuple(told))


def _casts(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    pairs = [
        (value.dtype, expected[key].dtype) for key, value in weights.items() if key in expected
    ]
    counts = Counter(
        f"{theirs} to {ours}".replace("torch.", "")
        for theirs, ours in pairs
        if theirs != ours and theirs.is_floating_point and ours.is_floating_point
    )
    return [f"{count} tensors cast from {dtypes}" for dtypes, count in counts.items()]


def _fresh(patterns: Sequence[str], expected: Mapping[str, Tensor], at: str) -> frozenset[str]:
    for index, pattern in enumerate(patterns):
        if not any(re.search(pattern, key) for key in expected):
            raise QS902.error(
                f"`{pattern}` matches no key of the model",
                help=f"its keys look like `{next(iter(expected), '')}`",
                at=f"{at}/{index}",
            )
    return frozenset(key for key in expected if _matches(patterns, key))


def _matches(patterns: Sequence[str], key: str) -> bool:
    return any(re.search(pattern, key) for pattern in patterns)

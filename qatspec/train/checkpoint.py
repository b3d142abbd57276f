"""Checkpoints (rule: names of files): everything a stage needs to go on as if it had never stopped.

A checkpoint's bytes depend on its contents alone: strings are interned and tensors cloned before
pickling (pickle memoises by identity, so a resumed run would differ from an unbroken one), and the
archive is written to memory first (torch.save puts a file's own stem into the zip).
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS901, QS902, QS905, QS940, QS941
from qatspec.diag.words import quote_list
from qatspec.files import encoded, how_to_read, why_unreadable
from qatspec.language import default
from qatspec.plan.checkpoints import known_digests, sha256_of, sidecar
from qatspec.quant.state import fit_state
from qatspec.train.differences import Differences
from qatspec.train.entries import weights_of
from qatspec.train.files import write_bytes
from qatspec.train.loadable import require_loadable
from qatspec.train.prefixes import without_prefixes
from qatspec.train.tensors import load_tensors

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds.

    epoch, step      epochs and optimizer steps that are done.
    state_dict       the weights that training goes on with; `ema` their moving average.
    sampler          {"epoch", "batch"}: where in the data to go on; "unfinished" where a signal
                     interrupted the validation that follows this step, which is then done first.
    rng              states of torch, numpy and python; "workers": the seed that, with epoch and
                     index, gives every sample its own generator.
    metrics          of the last validation; best: the choosing metric of the best one so far, and
                     best_metrics all of its.
    march, metrics and digests are provenance: they stand beside the tensors, which do not depend on
    them, and are never compared. digests: {"step": what the tensors depend on, "evaluation": what
    `metrics`, `best` and `best_metrics` do}.
    """

    stage: str
    epoch: int
    step: int
    state_dict: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
    ema: Mapping[str, Any] | None = None
    scaler: Mapping[str, Any] | None = None
    rng: Mapping[str, Any] = field(default_factory=dict)
    sampler: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    march: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """What `metrics` describe and later stages start from (see `weights_of`)."""
        return weights_of({"state_dict": self.state_dict, "ema": self.ema}).tensors

    def to_bytes(self) -> bytes:
        """The archive, equal for equal contents."""
        buffer = io.BytesIO()
        fields = {name: getattr(self, name) for name in self.__slots__}
        torch.save(_plain({"format": FORMAT, **fields}), buffer)
        return buffer.getvalue()


def save(checkpoint: Checkpoint, *paths: Path) -> None:
    """Write one checkpoint under each of `paths`, each with a sha256 sidecar.

    The sidecar names the old and the new digest before the file is renamed, and the new one alone
    afterwards, so that a kill at any moment leaves a file that its sidecar knows.
    Raises DiagnosticError QS903; the previous checkpoint is then intact.
    """
    save_bytes(checkpoint.to_bytes(), *paths)


def save_bytes(data: bytes, *paths: Path) -> None:
    """Write a checkpoint's bytes under each of `paths`, as `save` does. Raises DiagnosticError
    QS903."""
    digest = hashlib.sha256(data).hexdigest()
    for path in paths:
        write_sidecar(path, [digest, *known_digests(path)])
        write_bytes(path, data)
        write_sidecar(path, [digest])


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, never running code from it.

    Raises DiagnosticError: QS905 when there is none, QS901 when it is damaged or foreign.
    """
    try:
        known = known_digests(path)
        if known and sha256_of(path) not in known:
            raise _damaged(path, "its sha256 is not the one in its sidecar")
        content = load_tensors(path)
    except FileNotFoundError as error:
        raise QS905.error(
            f"there is no checkpoint `{path}`",
            help="correct the path, or run the stage that writes it (qatspec run --step)",
            span=Span(file=str(path)),
        ) from error
    except OSError as error:
        raise _damaged(path, why_unreadable(error), how_to_read(error, _AGAIN)) from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _damaged(path, f"it is not a qatspec checkpoint of format {FORMAT}")
    del content["format"]
    if set(content) != set(Checkpoint.__slots__):
        raise _damaged(path, "its fields are not a checkpoint's")
    return Checkpoint(**content)


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: Path,
    allow_miss: bool = default("solver", "allow_miss"),
    ignore_extra: bool = default("solver", "ignore_extra"),
    optional: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> list[Diagnostic]:
    """Load a checkpoint of any stage into `model`, strictly but for what stages have of their own
    (`fit_state`).

    optional: keys of the model that may be missing. names: key -> what it is in the file, of
    weights that the spec's float stage may rename; None: no setting renames them.

    Returns the warning QS940 where scales were converted to another dtype, else nothing. Raises
    DiagnosticError: QS902 with a table of the keys that do not fit, QS941 where scales come without
    their dtype, QS955 where numbers are not finite.
    """
    fitted = fit_state(model, weights)
    fitted = replace(fitted, missing=tuple(k for k in fitted.missing if k not in optional))
    missing, extra = fitted.missing, fitted.unexpected
    wrong = tuple(f"{key} {theirs} for {ours}" for key, (theirs, ours) in fitted.reshaped.items())
    faults = [
        *([("lacks", missing, "solver.allow_miss")] if missing and not allow_miss else []),
        *([("has unknown", extra, "solver.ignore_extra")] if extra and not ignore_extra else []),
        *([("has another shape of", wrong, "")] if wrong else []),
    ]
    if faults:
        words = "; ".join(
            f"{verb} {len(keys)} key{'s' * (len(keys) > 1)} ({', '.join(keys[:3])}"
            f"{', ...' * (len(keys) > 3)})"
            for verb, keys, _ in faults
        )
        differences = Differences.of(model, fitted, weights, names or {})
        switches = " and ".join(f"`{switch}: true`" for *_, switch in faults if switch)
        settings = "" if names is None else differences.settings()
        nothing = not any(key in weights for key in model.state_dict())
        raise QS902.error(
            f"the checkpoint does not fit the model: it {words}",
            help=_renamed_by_a_wrapper(model, weights, source)
            or _to_fit(settings, "" if wrong or nothing else switches),
            notes=differences.notes(),
            span=Span(file=str(source)),
        )
    if fitted.unlabelled:
        raise DiagnosticError(_unlabelled(fitted.unlabelled, source))
    require_loadable(model, fitted.state, source)
    model.load_state_dict(fitted.state, strict=False)
    return [_converted(fitted.converted, source)] if fitted.converted else []


def _renamed_by_a_wrapper(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> str:
    """The advice for a file whose keys differ by the names of wrappers alone; "" for another."""
    expected = model.state_dict()
    try:
        renamed = without_prefixes(weights, expected, source, "")
    except DiagnosticError:
        return ""
    if not renamed.told or not expected.keys() <= renamed.names.keys():
        return ""
    return (
        f"the names differ alone ({'; '.join(renamed.told)}): load the file with "
        "`qatspec.api.load_state`, or as `solver: {weights: FILE}` of the float stage, which "
        "recognise such names"
    )


def _to_fit(settings: str, switches: str) -> str:
    if settings:
        return (
            "use weights of this model; where the difference is intended, add to the stage's "
            f"`solver`: `{settings}`"
        )
    return "use a checkpoint of this model and this quantization" + (
        f", or set {switches} in the stage" if switches else ""
    )


def _unlabelled(paths: Sequence[str], source: Path) -> Diagnostic:
    return QS941.diagnostic(
        f"the checkpoint does not record the dtype of {len(paths)} scales "
        f"({quote_list(paths[:3])}{', ...' * (len(paths) > 3)})",
        help="an earlier version of qatspec wrote it: run the stage that made it again",
        span=Span(file=str(source)),
    )


def _converted(dtypes: Mapping[str, tuple[str, str]], source: Path) -> Diagnostic:
    pairs = Counter(dtypes.values())
    counts = ", ".join(f"{n} from {theirs} to {ours}" for (theirs, ours), n in pairs.items())
    return QS940.warning(
        f"`{source.name}` holds scales of another dtype, which were converted: {counts}",
        help="give both stages the same dtypes where the scales were meant for each other",
        span=Span(file=str(source)),
    )


def rng_state(seed: int) -> dict[str, Any]:
    """States of the process's generators, as plain data."""
    name, keys, position, has_gauss, gauss = cast("tuple[Any, ...]", np.random.get_state())
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
        "workers": seed,
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put the generators back to what `rng_state` saw."""
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, str):
        return sys.intern(str(value))
    return value


def write_sidecar(path: Path, digests: list[str]) -> None:
    """Write the sha256 sidecar of a checkpoint. Raises DiagnosticError QS903."""
    lines = "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests))
    write_bytes(sidecar(path), encoded(lines))


_AGAIN = "delete the file and run the stage again; it resumes from the newest intact checkpoint"


def _damaged(path: Path, why: str, advice: str = _AGAIN) -> DiagnosticError:
    return QS901.error(
        f"the checkpoint `{path}` is damaged or foreign: {why}",
        help=advice,
        span=Span(file=str(path)),
    )

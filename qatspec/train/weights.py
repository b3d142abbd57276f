"""Files of weights that another project wrote: which tensors they hold, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS902, QS905, QS960, QS961
from qatspec.diag.words import quote_list, suggest
from qatspec.files import how_to_read, why_unreadable
from qatspec.plan.provided import missing_package, not_weights
from qatspec.plan.weight_files import (
    MissingPackageError,
    UnusableWeightsError,
    shards,
    weight_format,
    weights_name,
)
from qatspec.train.entries import RAW, Chosen, entries, entry_of, module_of, weights_of
from qatspec.train.tensors import load_safetensors, load_tensors


@dataclass(frozen=True, slots=True)
class FileWeights:
    """The weights of a file. told: what was chosen among what it holds, in sentences."""

    tensors: dict[str, Tensor]
    told: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()


def read_weights(path: Path, entry: str | None = None, at: str | None = None) -> FileWeights:
    """Read the weights of a file of torch.save or safetensors, without running code from it.

    path   a state dict, a checkpoint that holds one (see `weights_of`), or an index of shards.
    entry  the entry of the checkpoint that is taken; None: the rule of `weights_of`.
    at     pointer of the solver that names the file.

    Raises DiagnosticError: QS905 when there is none, QS901 when it is damaged or something else,
    QS902 where it has no such entry, QS915 where the package for its format is not installed, and
    QS960 where several of its entries may be meant.
    """
    try:
        content = _content(path)
    except MissingPackageError as error:
        raise DiagnosticError(missing_package(path, error, None)) from error
    except UnusableWeightsError as error:
        raise DiagnosticError(not_weights(path, error, None)) from error
    except OSError as error:
        raise QS905.error(
            f"the weights `{path}` cannot be read: {why_unreadable(error)}",
            help=how_to_read(error, "correct the path"),
            span=Span(file=str(path)),
        ) from error
    except ValueError as error:
        raise _not_weights(path, str(error)) from error
    return weights_in(content, path, entry, at)


def weights_in(content: Any, path: Path, entry: str | None, at: str | None) -> FileWeights:
    """The weights in what a file holds. path: names it in messages. Raises as `read_weights`."""
    chosen = _chosen(path, content, entry, at)
    _demand_plain(path, chosen.tensors)
    return chosen


def _content(path: Path) -> Any:
    """What a file holds, with an `Omitted` in place of each object. Raises as `weight_format`,
    and ValueError where it is damaged."""
    kind = weight_format(path)
    if kind == "safetensors":
        return load_safetensors(path)
    if kind == "torch":
        return load_tensors(path, omit_objects=True)
    merged: dict[str, Any] = {}
    for shard in shards(path):
        if weight_format(shard) == "index":
            raise ValueError(f"its shard `{shard.name}` is an index itself")
        content = _content(shard)
        if not isinstance(content, Mapping):
            raise ValueError(f"its shard `{shard.name}` holds no tensors")
        merged.update(content)
    return merged


def _chosen(path: Path, content: Any, entry: str | None, at: str | None) -> FileWeights:
    if not isinstance(content, Mapping):
        raise _is_module(path, content) or _not_weights(
            path, f"it holds a {type(content).__name__}"
        )
    if entry is not None:
        tensors = entry_of(content, entry)
        if not tensors:
            raise _no_entry(path, content, entry, at)
        return FileWeights(tensors, (f"entry `{entry}`, as `solver.entry` says",))
    chosen = weights_of(content)
    module = module_of(content)
    if module is not None and chosen.entry not in RAW:
        raise _is_module(path, content) or AssertionError
    if not chosen.tensors:
        raise _is_module(path, content) or _not_weights(path, "it holds no tensors")
    if chosen.rivals:
        raise QS960.error(
            f"`{path.name}` holds weights in {quote_list(chosen.rivals)}",
            help=f"choose those to load: `entry: {chosen.rivals[0]}` in the stage's `solver`",
            at=at,
        )
    unread = (_unread(path, chosen),) if chosen.unread else ()
    return FileWeights(chosen.tensors, tuple(_told(chosen)), unread)


def _told(chosen: Chosen) -> list[str]:
    said = []
    if chosen.average and chosen.entry:
        said.append(
            f"the average in `{chosen.average}`, which replaces the weights in `{chosen.entry}` "
            f"(`solver.entry: {chosen.entry}` takes those)"
        )
    elif chosen.average or chosen.entry:
        said.append(f"entry `{chosen.average or chosen.entry}`")
    if chosen.others:
        said.append(f"{quote_list(chosen.others)} not taken (`solver.entry` chooses)")
    return said


def _demand_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise DiagnosticError QS901 for tensors whose numbers are not there one by one."""
    for key, value in tensors.items():
        if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
            kinds = (("nested", value.is_nested), ("quantized", value.is_quantized),
                     ("a placeholder of the device meta", value.is_meta))  # fmt: skip
            kind = next((name for name, is_so in kinds if is_so), str(value.layout))
            raise _not_weights(path, f"`{key}` is {kind}")


def _is_module(path: Path, content: Any) -> DiagnosticError | None:
    """QS901 for a module that was saved whole, with the line that writes its weights."""
    if (item := module_of(content)) is None:
        return None
    name, module = item
    entry = f"[{name!r}]" if name else ""
    return _not_weights(
        path,
        f"it holds a whole module of the class `{module.class_name}`"
        + (f" in `{name}`" if name else "")
        + ", and reading that would run code from the file",
        "if you trust the file, write its weights where the module's code can be imported: "
        f"`import torch; torch.save(torch.load({path.name!r}, map_location='cpu', "
        f"weights_only=False){entry}.float().state_dict(), {weights_name(path.name)!r})`, and name "
        "that file",
    )


def _no_entry(
    path: Path, content: Mapping[str, Any], entry: str, at: str | None
) -> DiagnosticError:
    known = entries(content)
    prefixes = dict.fromkeys(k.partition(".")[0] for k in weights_of(content).tensors if "." in k)
    return QS902.error(
        f"`{path.name}` has no entry `{entry}` that holds tensors",
        help=suggest(entry, known or list(prefixes)) or "leave `entry` out",
        at=None if at is None else f"{at}/entry",
    )


def _unread(path: Path, chosen: Chosen) -> Diagnostic:
    names = quote_list(chosen.unread)
    where = f"those of `{chosen.entry}`" if chosen.entry else "the others"
    return QS961.warning(
        f"the average in {names} of `{path.name}` is an object, which is not read because that "
        f"would run code from the file: {where} are taken",
        help=f"to say that they are meant, set `entry: {chosen.entry}` in the stage's `solver`"
        if chosen.entry
        else "save the average as a state dict, and name that file",
        span=Span(file=str(path)),
    )


def _not_weights(path: Path, why: str, advice: str = "") -> DiagnosticError:
    again = "save them again in a trusted environment: torch.save(model.state_dict(), ...)"
    return DiagnosticError(not_weights(path, UnusableWeightsError(why, advice or again), None))

"""Prefixes by which the keys of a file differ from those of the model.

Wrappers put names before keys: DataParallel and DistributedDataParallel `module.`, torch.compile
`_orig_mod.`, Lightning `model.` or `net.`; and a model of a plugin may hold the network as a child.
Only names are changed here. Loading stays strict.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from qatspec.diag.codes import QS960
from qatspec.train.loadable import has_shape

#: Names of children that wrappers add, anywhere in a key.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: What AveragedModel counts in, beside the weights that it wraps as `module`.
_AVERAGED = "n_averaged"
#: Places of the model that one key is held against, and candidates that are tried.
_PLACES, _TRIED = 8, 16
#: A batch norm's counter of batches, which some files hold and some do not: it is not a weight.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Prefix:
    """`theirs` in front of the file's keys stands for `ours` in front of the model's."""

    theirs: str = ""
    ours: str = ""

    def __str__(self) -> str:
        if self.theirs and self.ours:
            return f"`{self.theirs}` became `{self.ours}`"
        return f"`{self.theirs}` was removed" if self.theirs else f"`{self.ours}` was added"

    @property
    def is_average(self) -> bool:
        return "ema" in re.split(r"[._]", self.theirs)

    @property
    def key_map(self) -> str:
        """The `key_map` of this prefix alone, as YAML."""
        return f"[['^{re.escape(self.theirs)}', '{self.ours}']]"


@dataclass(frozen=True, slots=True)
class Renamed:
    """Keys under the model's names. names: key -> what it is in the file; told: what was done."""

    names: dict[str, str]
    told: tuple[str, ...] = ()


def without_prefixes(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Path, at: str
) -> Renamed:
    """Rename the keys of `weights` where wrappers alone keep them from being the model's.

    expected: the model's state dict. at: the pointer of the solver.

    Where copies of the model's weights are under two prefixes, that of a moving average is taken.
    Raises DiagnosticError QS960 where two prefixes fit equally well.
    """
    names, told = _unwrapped(weights, expected)
    fits = _Fits({key: weights[names[key]] for key in names}, expected)
    candidates = [Prefix(), *filter(fits.is_of_most, _candidates(names, expected))]
    complete = [c for c in candidates if fits.missing(c) == 0]
    chosen = _one(complete or _best(candidates, fits), source, at)
    if chosen is None or chosen == Prefix():
        return Renamed(names, told)
    copies = [prefix for prefix in complete if prefix != chosen]
    renamed = _renamed(names, chosen, expected, copies)
    changed = sum(key != renamed.get(key) for key in renamed)
    return Renamed(renamed, (*told, f"{chosen} in front of {changed} keys"))


def _renamed(
    names: Mapping[str, str],
    prefix: Prefix,
    expected: Mapping[str, Tensor],
    copies: Sequence[Prefix],
) -> dict[str, str]:
    """`names` under the model's keys, without those under the prefixes of other `copies`."""
    part = _part(names, prefix, expected)
    copied = {key for copy in copies for key in _part(names, copy, expected)}
    taken = {names[key] for key in part}
    rest = {key: name for key, name in names.items() if key not in part and key not in copied}
    renamed = {key: names[old] for old, key in part.items()}
    kept = {key: name for key, name in rest.items() if key not in renamed and name not in taken}
    return {**kept, **renamed}


def _part(
    keys: Mapping[str, object], prefix: Prefix, expected: Mapping[str, Tensor]
) -> dict[str, str]:
    """Key of the file -> that of the model, of the keys that a prefix alone keeps apart."""
    start = len(prefix.theirs)
    return {
        key: renamed
        for key in keys
        if key.startswith(prefix.theirs)
        and (prefix.theirs or key not in expected)
        and (renamed := prefix.ours + key[start:]) in expected
    }


class _Fits:
    """How well the keys of a file fit a model under a prefix."""

    def __init__(self, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        self._weights, self._expected = weights, expected
        self._needed = {key for key in expected if not key.endswith(COUNTER)}

    def matched(self, prefix: Prefix) -> set[str]:
        """The model's keys that the file has, of the same shape."""
        part = _part(self._weights, prefix, self._expected)
        rest = {key: key for key in self._weights if key not in part}
        return {
            key
            for old, key in {**rest, **part}.items()
            if key in self._needed and has_shape(self._weights[old], self._expected[key])
        }

    def missing(self, prefix: Prefix) -> int:
        return len(self._needed - self.matched(prefix))

    def is_of_most(self, prefix: Prefix) -> bool:
        """Return whether a prefix stands in front of more than half of the file, or of the model:
        a module of another name is left to `key_map`."""
        part = len(_part(self._weights, prefix, self._expected))
        return 2 * part > min(len(self._weights), len(self._expected))

    def half(self) -> int:
        """How many matches are half of the model."""
        return (len(self._needed) + 1) // 2


def _best(candidates: Sequence[Prefix], fits: _Fits) -> list[Prefix]:
    """The candidates that match most keys; none where that is no more than the keys as they are, or
    too little to tell."""
    counts = {candidate: len(fits.matched(candidate)) for candidate in candidates}
    most = max(counts.values())
    best = [c for c, n in counts.items() if n == most]
    return best if most > counts[Prefix()] and (most >= fits.half() or len(best) == 1) else []


def _one(prefixes: Sequence[Prefix], source: Path, at: str) -> Prefix | None:
    """The one of the prefixes that fit equally well. Raises DiagnosticError QS960."""
    if len(prefixes) < 2:
        return next(iter(prefixes), None)
    averages = [prefix for prefix in prefixes if prefix.is_average]
    if len(averages) == 1:
        return averages[0]
    if Prefix() in prefixes:
        return Prefix()
    theirs = [prefix.theirs for prefix in prefixes]
    if len(set(theirs)) == len(theirs):
        shown = " and ".join(f"`{prefix}`" for prefix in theirs)
        raise QS960.error(
            f"`{source.name}` holds weights that fit the model under {shown}",
            help=f"choose those to load: `entry: {theirs[0].rstrip('.')}` in the stage's `solver`",
            at=at,
        )
    shown = " and ".join(f"`{prefix.ours}`" for prefix in prefixes)
    raise QS960.error(
        f"the weights in `{source.name}` fit the model at {shown}",
        help=f"choose the place: `key_map: {prefixes[0].key_map}` in the stage's `solver`",
        at=at,
    )


def _candidates(keys: Mapping[str, object], expected: Mapping[str, Tensor]) -> list[Prefix]:
    """The prefixes that most keys have in front of the longest part that they share with a key of
    the model."""
    tails: dict[str, list[str]] = {}
    for key in expected:
        for start in _starts(key):
            places = tails.setdefault(key[start:], [])
            if len(places) < _PLACES:
                places.append(key[:start])
    votes = Counter(
        Prefix(key[:start], ours)
        for key in keys
        for start in [next((s for s in _starts(key) if key[s:] in tails), None)]
        if start is not None
        for ours in tails[key[start:]]
    )
    votes.pop(Prefix(), None)
    return [prefix for prefix, _ in votes.most_common(_TRIED)]


def _starts(key: str) -> list[int]:
    """Where the parts of a key begin."""
    return [0, *(dot + 1 for dot, c in enumerate(key) if c == ".")]


def _unwrapped(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """({key without names of wrappers: key}, what was done)."""
    in_model = {part for key in expected for part in key.split(".")}
    wrappers = [name for name in _WRAPPERS if name not in in_model]
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for key in weights:
        parts = key.split(".")
        if parts[-1] == _AVERAGED and key not in expected:
            continue
        names[".".join(part for part in parts if part not in wrappers)] = key
        counts.update(set(parts) & set(wrappers))
    if len(names) < sum(key.rpartition(".")[2] != _AVERAGED for key in weights):
        return {key: key for key in weights}, ()  # two keys would become one
    return names, tuple(f"`{name}.` was removed from {n} keys" for name, n in counts.items())

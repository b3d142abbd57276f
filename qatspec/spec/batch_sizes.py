"""`batch_size: auto`: batch sizes that the first run of a spec chooses.

A run measures the memory of a step, chooses the sizes, and records them in its work directory
(`qatspec.engine.batch_sizes`); every later command takes the recorded ones. A spec with chosen
sizes is the spec with these numbers in it, so that digests and results are those of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS964
from qatspec.source import Document
from qatspec.source.derive import derive, tree_at
from qatspec.source.pointer import join, parent, split
from qatspec.spec.model import Spec

AUTO = "auto"
#: Examples of a batch while no size is chosen: in a smoke run, and where a command tries a model.
TRIED = 2
#: Pointers of the sizes that may be chosen: those of data and stages that train.
CHOSEN = (
    "/data/train/batch_size",
    "/data/qat/batch_size",
    "/stages/float/batch_size_per_gpu",
    "/stages/qat/batch_size_per_gpu",
)


def batch_size(value: int | str) -> int:
    """The size that a spec states, or that stands for one while none is chosen."""
    return TRIED if isinstance(value, str) else value


def unchosen(spec: Spec) -> tuple[str, ...]:
    """Pointers of the batch sizes that are to be chosen."""
    return tuple(at for at in _automatic(spec.document) if at in CHOSEN)


def refused(document: Document) -> Iterator[Diagnostic]:
    """QS964 for each size that no training could be measured for."""
    for at in _automatic(document):
        if at in CHOSEN:
            continue
        key = split(at)[-1]
        where = "a candidate" if "/candidates/" in at else f"`{split(parent(at))[-1]}`"
        yield QS964.diagnostic(
            f"`{key}: {AUTO}` of {where}: a size is chosen for `data.train`, `data.qat` and the "
            "stages float and qat, by the memory of a training step",
            help=f"write a number, such as `{key}: 16`",
            at=at,
        )


def with_batch_sizes(
    spec: Spec, sizes: Mapping[str, int], build: Callable[[Document], Spec]
) -> Spec:
    """The spec with the chosen sizes (pointer -> number) in place of `auto`.

    build: makes the spec of a document. Raises DiagnosticError as `build` does."""
    if not sizes:
        return spec
    document = spec.document
    values = {at: replace(tree_at(document, at), value=size) for at, size in sizes.items()}
    derived = derive(document, values=values)
    with derived.located():
        built = build(derived)
    tried = tuple(
        replace(one, spec=replace(one.spec, chosen_sizes=dict(sizes))) for one in built.candidates
    )
    return replace(built, candidates=tried, chosen_sizes=dict(sizes))


def _automatic(document: Document) -> Iterator[str]:
    """Pointers of all batch sizes that are `auto`, in the order of the file."""
    data, stages = document.data["data"], document.data["stages"]
    for role in data:
        if data[role].get("batch_size") == AUTO:
            yield join("/data", role, "batch_size")
    for name, stage in stages.items():
        at = join("/stages", name)
        stated = {at: stage or {}}
        for candidate, change in ((stage or {}).get("candidates") or {}).items():
            stated[join(at, "candidates", candidate)] = change or {}
        for where, settings in stated.items():
            if settings.get("batch_size_per_gpu") == AUTO:
                yield join(where, "batch_size_per_gpu")

"""The record of the batch sizes that a run chose where its spec says `auto`.

It lies in the work directory. A size stays as it was chosen, whatever machine reads it, until the
model changes (which trains everything again anyway) or the file is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.files import read_json
from qatspec.plan.digest import digest
from qatspec.plan.model import CANDIDATES
from qatspec.plan.values import spec_values, within
from qatspec.registry import Registry, registry as installed
from qatspec.spec import Spec, unchosen, with_sizes

FILE = "batch-sizes.json"
FORMAT = 1
_LARGEST = 1 << 20


def model_digest(spec: Spec, registry: Registry | None = None) -> str:
    """The digest of the model that a size is chosen for."""
    values = spec_values(spec, registry or installed(), "tensors")
    return digest({at: value for at, value in values.items() if within(at, ("/model",))})


def recorded(workdir: Path) -> Mapping[str, Mapping[str, Any]]:
    """Pointer -> what was chosen: `size`, `model` (its digest), `why`. Empty without a readable
    record."""
    if workdir.parent.name == CANDIDATES:  # of a candidate, which shares those of the spec
        workdir = workdir.parent.parent
    try:
        chosen = read_json(workdir / FILE, _LARGEST)["chosen"]
        return {at: one for at, one in chosen.items() if int(one["size"]) >= 1}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def with_recorded_sizes(spec: Spec, workdir: Path, registry: Registry | None = None) -> Spec:
    """The spec with the batch sizes that a run chose for its model in `workdir`.

    Raises DiagnosticError as loading a spec does."""
    asked = unchosen(spec)
    if not asked:
        return spec
    of_model, chosen = model_digest(spec, registry), recorded(workdir)
    there = [at for at in asked if at in chosen and chosen[at].get("model") == of_model]
    return with_sizes(spec, {at: int(chosen[at]["size"]) for at in there}, registry)

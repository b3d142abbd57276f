"""A Spec as YAML again: one file that says all that counts."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.schema import spec_schema, with_defaults
from qatspec.source.pointer import join
from qatspec.source.write import block
from qatspec.spec.candidates import start_stage
from qatspec.spec.model import Spec

#: What has done its work once a spec is loaded.
_SPENT = ("extends", "vars", "smoke")
_FIRST = ("qatspec", "name", "march", "seed", "plugins", "model", "data", "quantize", "stages")


def dump(spec: Spec, *, places: bool = False) -> str:
    """The YAML text of a spec: merged, references resolved, defaults written out, names of
    registered things as their plugins spell them.

    Loaded in the folder of the spec's file, it gives an equal Spec and a Plan of equal digests.
    What `quantize` leaves out stays out: a key there counts as said, and a stage's own `quantize`
    would hide the top one's. places: behind each value, the file and line that it came from.
    """
    return block(_resolved(spec), _locations(spec) if places else None)


def _resolved(spec: Spec) -> dict[str, Any]:
    written = spec.document.data
    data = {k: v for k, v in with_defaults(spec_schema(), written).items() if k not in _SPENT}
    data["plugins"] = _plugins(spec)
    data["model"]["type"], data["model"]["params"] = spec.model.type, dict(spec.model.params)
    for role, settings in spec.data.items():
        explicit = data["data"].setdefault(role, dict(data["data"]["train"]))
        explicit["type"], explicit["params"] = settings.dataset.type, dict(settings.dataset.params)
    if "quantize" in written:
        data["quantize"] = written["quantize"]
    for name, stage in written["stages"].items():
        if "quantize" in stage:
            data["stages"][name]["quantize"] = stage["quantize"]
    if spec.tried is not None and spec.stages[spec.tried].init_from:  # says it in its place
        start = data["stages"][start_stage(spec, spec.tried)]
        if "solver" in start:
            del start["solver"]["pre_step_checkpoint"]
    if "compile" in spec.stages:
        data["stages"]["compile"] = dict(spec.stages["compile"].options)
    data["stages"] = {name: data["stages"][name] for name in spec.stages}
    return {key: data[key] for key in _FIRST if key in data}


def _plugins(spec: Spec) -> list[str]:
    """Paths of the spec's folder; in the spec they are relative to the file that names them."""
    here = Path(spec.document.path).parent
    named = enumerate(spec.plugins)
    files = ((Path(spec.document.span(join("/plugins", i)).file).parent, p) for i, p in named)
    return [os.path.relpath(folder / path, here) for folder, path in files]


def _locations(spec: Spec) -> Any:
    spans: Mapping[str, Any] = spec.document.spans
    origins = spec.document.origins

    def location(pointer: str) -> str:
        if pointer not in spans:
            return "default"
        span = origins.get(pointer) or spans[pointer][1]
        return f"{span.file}:{span.line}"

    return location

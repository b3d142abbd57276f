"""The march `onnxruntime`: the artifact holds the converted ONNX, onnxruntime runs it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from qatspec.api import (
    Artifact,
    DiagnosticError,
    OnnxRunner,
    Verdict,
    codes,
    open_session,
    run_in_batches,
    scratch_folder,
    to_onnx,
)

if TYPE_CHECKING:
    from qatspec.api import Op, Program

Run = Callable[..., list[np.ndarray]]
_MODEL = "model.onnx"


def supports(op: Op, program: Program) -> Verdict:
    """Every integer op has an ONNX form."""
    return Verdict(True)


def compile_onnx(program: Program, options: Mapping[str, Any]) -> Artifact:
    """The Program as ONNX bytes. Raises DiagnosticError QS804 without onnxruntime."""
    _runtime()
    exact = options["opt"] == "exact"
    with scratch_folder() as folder:
        path = folder / _MODEL
        to_onnx(program, path, exact=exact, batch=options["batch"])
        data = path.read_bytes()
    return Artifact(
        march="onnxruntime",
        inputs=program.inputs,
        outputs=program.outputs,
        manifest={
            "name": program.name,
            "program": _digest(data),
            "tree": program.tree,
            "bit_exact": exact,
            "max_lsb": 0 if exact else None,
            "options": {"opt": options["opt"], "batch": options["batch"]},
        },
        sections={_MODEL: data},
    )


def _digest(data: bytes) -> str:
    """The program's digest, which the converted ONNX states in its metadata."""
    metadata = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    return str(json.loads(metadata["qatspec"])["program"])


def run(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Integers in, integers out. The session is built once and lives as long as the artifact.

    Raises DiagnosticError: QS804 without onnxruntime, QS811 where the artifact holds no ONNX that
    loads, QS722 for `opt: exact` on a CPU that is not exact.
    """
    session = _SESSIONS.get(artifact)
    if session is None:
        session = _SESSIONS[artifact] = _load(artifact)
    batch = artifact.manifest["options"].get("batch")
    return session(*ints) if batch is None else run_in_batches(session, ints, batch)


_SESSIONS: weakref.WeakKeyDictionary[Artifact, Run] = weakref.WeakKeyDictionary()


def _load(artifact: Artifact) -> Run:
    _runtime()
    data = artifact.sections.get(_MODEL)
    options = artifact.manifest.get("options")
    if data is None or not isinstance(options, dict):
        raise _broken("it holds no ONNX file")
    if options.get("opt") == "exact":
        return _self_tested(data)
    try:
        session = open_session(data, 0)
    except Exception as problem:
        raise _broken(str(problem).splitlines()[0][:200]) from problem
    names = [i.name for i in session.get_inputs()]
    return lambda *ints: list(session.run(None, dict(zip(names, ints, strict=True))))


def _self_tested(data: bytes) -> Run:
    """A runner that has proved this CPU's kernels exact."""
    with scratch_folder() as folder:
        path = folder / _MODEL
        path.write_bytes(data)
        try:
            runner: Run = OnnxRunner.load(path).run
        except DiagnosticError as problem:
            (diagnostic,) = problem.diagnostics
            if diagnostic.code != codes.QS721:
                raise
            raise _broken(diagnostic.message) from problem  # the file it names is gone
    return runner


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as problem:
        raise codes.QS804.error(
            "march `onnxruntime` needs onnxruntime, which is not installed",
            help="pip install 'qatspec[onnxruntime]'",
        ) from problem
    return onnxruntime


def _broken(why: str) -> DiagnosticError:
    return codes.QS811.error(
        f"not a program compiled for onnxruntime: {why}",
        help="compile it again with `qatspec convert`",
    )

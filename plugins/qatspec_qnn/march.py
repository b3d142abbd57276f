"""The march `qnn`: the artifact holds one context node, which Hexagon or its simulator runs."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from qatspec.api import (
    Artifact,
    DiagnosticError,
    codes,
    digest,
    measured_exactness,
    qdq_feeds,
    qdq_integers,
    run_in_batches,
    scratch_folder,
    to_qdq_onnx,
)

if TYPE_CHECKING:
    from qatspec.api import Program

#: The largest number of half precision.
_LARGEST_HALF = float(np.finfo(np.float16).max)
#: The Q/DQ ONNX, and an ONNX of one node that holds the context binary.
MODEL, CONTEXT = "model.onnx", "context.onnx"


def compile_model(program: Program, options: Mapping[str, Any]) -> Artifact:
    """The Program as a context binary for one chip.

    Raises DiagnosticError: QS804 without the vendor's package, QS801 where the compiler leaves ops
    to the CPU, or numbers do not fit half precision, QS803 where it refuses the chip or the model.
    """
    runtime = _runtime()
    if options["compiled"]:  # ranges before training, in a trial, say nothing
        _demand_half(program)
    with scratch_folder() as folder:
        to_qdq_onnx(program, folder / MODEL, batch=options["batch"], node_units=True)
        if options["compiled"]:
            sections = {CONTEXT: _context(folder, options["soc_model"])}
        else:
            sections = {MODEL: (folder / MODEL).read_bytes()}
    return Artifact(
        march="qnn",
        inputs=program.inputs,
        outputs=program.outputs,
        manifest={
            "name": program.name,
            "program": digest(program),
            "tree": program.tree,
            "bit_exact": False,
            "max_lsb": None,
            "options": dict(options),
            "onnxruntime-qnn": runtime.__version__,
        },
        sections=sections,
    )


def _demand_half(program: Program) -> None:
    """Raise QS801 for sums that no op rounds of numbers beyond float16: the chip computes them in
    half precision, and its simulator returns wrong numbers without an error."""
    readers = Counter(name for op in program.ops for name in op.inputs)
    for op in program.ops:
        value = program.values.get(op.inputs[0])
        result = program.values[op.output]
        if op.kind not in ("conv", "linear") or result.scale is None or readers[op.output]:
            continue
        if value is None or value.scale is None:
            continue
        largest = 255 * float(value.scale.max())
        if largest > _LARGEST_HALF:
            layer = op.origin.module or op.output
            raise codes.QS801.error(
                f"`{layer}` on qnn: sums that no op rounds are computed in half precision, and its "
                f"input may reach {largest:.3g}, beyond {_LARGEST_HALF:.0f}",
                help="write `quantize_output: true` for its module, or train the model: ranges "
                "like this are those of weights without training",
            )


def _context(folder: Path, soc_model: int) -> bytes:
    """The file with the context binary of `folder / MODEL`."""
    script, target = Path(__file__).with_name("compiling.py"), folder / CONTEXT
    words = [sys.executable, str(script), str(folder / MODEL), str(target), str(soc_model)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise codes.QS803.error(
            f"compile options of qnn: the compiler refuses soc_model {soc_model} or the model: "
            f"{last[:300]}",
            help="write `soc_model: 43`, which was tried; if that fails as well, report the model",
        )
    kinds = Counter(n.op_type for n in onnx.load(target).graph.node) if target.exists() else {}
    if kinds != {"EPContext": 1}:
        left = [kind for kind in kinds if kind != "EPContext"]
        what = f"these to the CPU: {', '.join(sorted(left))}" if left else "everything to the CPU"
        raise codes.QS801.error(
            f"the compiler of qnn does not take the whole Program, it leaves {what}",
            help="report the model's ops to qatspec, or choose another march",
        )
    return target.read_bytes()


def run(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Integers in, integers out. On x86 the vendor's simulator computes them.

    Raises DiagnosticError: QS804 without the vendor's package, QS811 where the artifact holds no
    context.
    """
    session = _SESSIONS.get(artifact)
    if session is None:
        session = _SESSIONS[artifact] = _load(artifact)
    names = [port.name for port in session.get_inputs()]

    def through(*arrays: np.ndarray) -> list[np.ndarray]:
        feeds = dict(zip(names, qdq_feeds(artifact.inputs, arrays), strict=True))
        return qdq_integers(artifact.outputs, session.run(None, feeds))

    return run_in_batches(through, ints, artifact.manifest["options"]["batch"])


_SESSIONS: weakref.WeakKeyDictionary[Artifact, Any] = weakref.WeakKeyDictionary()


def _load(artifact: Artifact) -> Any:
    _runtime()
    data = artifact.sections.get(CONTEXT, artifact.sections.get(MODEL))
    options = artifact.manifest.get("options")
    if data is None or not isinstance(options, dict) or not {"soc_model", "batch"} <= set(options):
        raise _broken("it holds no context")
    try:
        from qatspec_qnn.compiling import open_session

        return open_session(data, options["soc_model"], {})
    except Exception as problem:
        raise _broken((str(problem).splitlines() or ["?"])[0][:200]) from problem


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Compare the outputs with the Program's. The simulator's time says nothing of the chip's."""
    exactness = measured_exactness(program, inputs, lambda *ints: run(artifact, ints), None)
    return {"manifest": exactness}


def _runtime() -> Any:
    try:
        import onnxruntime  # noqa: F401 - the package below does not name it as the cause
        import onnxruntime_qnn
    except ImportError as problem:
        raise codes.QS804.error(
            "march `qnn` needs onnxruntime-qnn, which is not installed",
            help="pip install 'qatspec[qnn]'",
        ) from problem
    return onnxruntime_qnn


def _broken(why: str) -> DiagnosticError:
    return codes.QS811.error(
        f"not a program compiled for qnn: {why}",
        help="compile it again with `qatspec convert`",
    )

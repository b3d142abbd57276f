"""The march `openvino`: the artifact holds the Program as Q/DQ ONNX and what OpenVINO compiles of
it."""

from __future__ import annotations

import io
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.api import (
    Artifact,
    DiagnosticError,
    Verdict,
    codes,
    digest,
    qdq_feeds,
    qdq_integers,
    run_in_batches,
    scratch_folder,
    to_qdq_onnx,
)

if TYPE_CHECKING:
    from qatspec.api import Op, Program

MODEL, COMPILED = "model.onnx", "compiled.blob"
Run = Callable[..., list[np.ndarray]]


def supports(op: Op, program: Program) -> Verdict:
    """Every integer op has a form in ops of OpenVINO."""
    return Verdict(True)


def compile_model(program: Program, options: Mapping[str, Any]) -> Artifact:
    """The Program as Q/DQ ONNX, and compiled for the device.

    Raises DiagnosticError: QS804 without OpenVINO, QS803 for a device that is not there or refuses
    the model.
    """
    core = _core()
    device = options["device"]
    if device not in core.available_devices:
        raise codes.QS803.error(
            f"compile options of openvino: there is no {device} on this machine; OpenVINO finds "
            f"{', '.join(core.available_devices)}",
            help=f"write `device: {core.available_devices[0]}`",
        )
    with scratch_folder() as folder:
        to_qdq_onnx(program, folder / MODEL, batch=options["batch"])
        sections = {MODEL: (folder / MODEL).read_bytes()}
        if options["compiled"]:
            sections[COMPILED] = _compiled(folder, device, options["precision"])
    return Artifact(
        march="openvino",
        inputs=program.inputs,
        outputs=program.outputs,
        manifest={
            "name": program.name,
            "program": digest(program),
            "tree": program.tree,
            "bit_exact": False,
            "max_lsb": None,
            "options": dict(options),
            "compiled for": _target(core, device),
        },
        sections=sections,
    )


def _compiled(folder: Path, device: str, precision: str) -> bytes:
    """The compiled model of `folder / MODEL`."""
    script, target = Path(__file__).with_name("compiling.py"), folder / COMPILED
    words = [sys.executable, str(script), str(folder / MODEL), str(target), device, precision]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise codes.QS803.error(
            f"compile options of openvino: OpenVINO does not compile the model for {device} with "
            f"these: {last[:300]}",
            help="write `device: CPU` and `precision: f32`, which take every model, or "
            "`batch: 1` for a device that takes fixed sizes only",
        )
    return target.read_bytes()


def _target(core: Any, device: str) -> dict[str, str]:
    """For what a compiled model is valid."""
    return {
        "openvino": str(_openvino().__version__),
        "device": str(core.get_property(device, "FULL_DEVICE_NAME")),
    }


def open_model(data: bytes, options: Mapping[str, Any], threads: int) -> Any:
    """An ONNX file compiled in this process. threads: 0 = as OpenVINO chooses."""
    core = _core()
    return core.compile_model(core.read_model(data), *_settings(options, threads))


def open_artifact(artifact: Artifact, threads: int) -> Any:
    """The compiled model of an artifact: imported where it was compiled for this device by this
    version, else compiled again. Raises DiagnosticError QS811 where it holds no model."""
    core, options = _core(), artifact.manifest.get("options")
    data = artifact.sections.get(MODEL)
    if data is None or not isinstance(options, dict) or not {"device", "batch"} <= set(options):
        raise _broken("it holds no ONNX file")
    try:
        blob = artifact.sections.get(COMPILED)
        target = artifact.manifest.get("compiled for")
        if blob is not None and target == _target(core, options["device"]):
            return core.import_model(io.BytesIO(blob), *_settings(options, threads))
        return open_model(data, options, threads)
    except Exception as problem:  # OpenVINO raises RuntimeError for all that it refuses
        raise _broken((str(problem).strip().splitlines() or ["?"])[-1][:200]) from problem


def _settings(options: Mapping[str, Any], threads: int) -> tuple[str, dict[str, Any]]:
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": options["precision"]}
    if threads:
        settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    return options["device"], settings


def run(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Integers in, integers out. The model is opened once and lives as long as the artifact.

    Raises DiagnosticError: QS804 without OpenVINO, QS811 where the artifact holds no model.
    """
    if artifact not in _RUNS:
        _RUNS[artifact] = runner(open_artifact(artifact, 0), artifact)
    batch = artifact.manifest["options"]["batch"]
    model = _RUNS[artifact]
    return model(*ints) if batch is None else run_in_batches(model, ints, batch)


_RUNS: weakref.WeakKeyDictionary[Artifact, Run] = weakref.WeakKeyDictionary()


def runner(model: Any, artifact: Artifact) -> Run:
    """Integers of the artifact's ports through an opened model."""
    request, inputs, outputs = model.create_infer_request(), artifact.inputs, artifact.outputs

    def through(*ints: np.ndarray) -> list[np.ndarray]:
        request.infer(qdq_feeds(inputs, ints))
        arrays = [request.get_output_tensor(i).data.copy() for i in range(len(outputs))]
        return qdq_integers(outputs, arrays)

    return through


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as problem:
        raise codes.QS804.error(
            "march `openvino` needs OpenVINO, which is not installed",
            help="pip install 'qatspec[openvino]'",
        ) from problem
    return openvino


def _core() -> Any:
    return _openvino().Core()


def _broken(why: str) -> DiagnosticError:
    return codes.QS811.error(
        f"not a program compiled for openvino: {why}",
        help="compile it again with `qatspec convert`",
    )

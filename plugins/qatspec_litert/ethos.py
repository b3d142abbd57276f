"""The marches of Arm's Ethos-U: Arm's compiler Vela makes the chip's file of the
TFLite file, and estimates its cycles and memory.

What runs here is the TFLite file in LiteRT's reference kernels. Arm states that the NPU computes
their integers; no Ethos-U was at hand to check it.
"""

from __future__ import annotations

import csv
import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.api import Artifact, DiagnosticError, codes, scratch_folder
from qatspec_litert.march import MODEL, compile_tflite
from qatspec_litert.vela import run_vela

if TYPE_CHECKING:
    from qatspec.api import Program

COMPILED = "model_vela.tflite"
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")
_NOTE = "estimated by Arm's compiler Vela, not measured on a chip"


def compile_ethos(march: str, form: str, program: Program, options: Mapping[str, Any]) -> Artifact:
    """The TFLite file and what Vela makes of it. Raises DiagnosticError: QS801 for ops that the
    file cannot hold exactly, QS803 where Vela refuses, QS804 without Vela or ai-edge-litert."""
    made = compile_tflite(march, form, program, options)
    version = _installed()
    with scratch_folder() as folder:
        source = folder / MODEL
        source.write_bytes(made.sections[MODEL])
        _vela(source, folder, march, options)
        compiled = (folder / COMPILED).read_bytes()
        figures = _figures(folder)
    manifest = {
        **made.manifest,
        "options": dict(options),
        "vela": {"version": version, "operators": _operators(compiled), **figures},
    }
    sections = {**made.sections, COMPILED: compiled}
    return replace(made, manifest=manifest, sections=sections)


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """The estimate that Vela made when it compiled, for perf.json."""
    vela = artifact.manifest["vela"]
    cycles = {name.removeprefix("cycles_"): count for name, count in vela["cycles"].items()}
    milliseconds = 1000 * vela["cycles"]["cycles_total"] / vela["clock (Hz)"]
    perf = {
        "model name": artifact.manifest["name"],
        "march": artifact.march,
        "source": "Vela's estimate",
        "note": _NOTE,
        "vela": vela["version"],
        "options": artifact.manifest["options"],
        "accelerator": vela["accelerator"],
        "clock (Hz)": vela["clock (Hz)"],
        "batch": 1,
        "latency (ms)": round(milliseconds, 4),
        "FPS": round(1000 / milliseconds, 2) if milliseconds else None,
        "cycles": cycles,
        "memory (KiB)": vela["memory (KiB)"],
        "traffic (bytes)": vela["traffic (bytes)"],
        "MACs": vela["MACs"],
        "operators": vela["operators"],
    }
    return {"perf": perf}


def _installed() -> str:
    """Vela's version. Raises DiagnosticError QS804 where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("ethos-u-vela")
    except PackageNotFoundError as problem:
        raise _missing() from problem
    if importlib.util.find_spec("ethosu") is None:
        raise _missing()
    return installed


def _missing() -> DiagnosticError:
    return codes.QS804.error(
        "this march needs Arm's compiler ethos-u-vela, which is not installed",
        help="pip install 'qatspec[ethos]'",
    )


def _vela(source: Path, folder: Path, march: str, options: Mapping[str, Any]) -> None:
    accelerator = f"{march.replace('_', '-')}-{options['macs']}"
    arguments = [str(source), "--output-dir", str(folder), "--accelerator-config", accelerator]
    if options["system"] is not None:
        arguments += ["--system-config", options["system"]]
    if options["memory"] is not None:
        arguments += ["--memory-mode", options["memory"]]
    ended = run_vela(arguments)
    if ended.code or not (folder / COMPILED).exists():
        words = [line for line in ended.said.splitlines() if "rror" in line]
        said = words[-1].strip()[:200] if words else f"exit code {ended.code}"
        raise codes.QS803.error(
            f"Vela does not compile the file for {accelerator}: {said}",
            help="choose `system` and `memory` that fit the accelerator, or delete both",
        )


def _figures(folder: Path) -> dict[str, Any]:
    """Clock, cycles, memory and traffic of Vela's summary."""
    (path,) = folder.glob("*_summary_*.csv")
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return {
        "accelerator": row["accelerator_configuration"],
        "system": row["system_config"],
        "memory": row["memory_mode"],
        "clock (Hz)": float(row["core_clock"]),
        "MACs": int(float(row["nn_macs"])),
        "cycles": {name: int(float(v)) for name, v in row.items() if name.startswith("cycles_")},
        "memory (KiB)": {name: float(row[f"{name}_memory_used"]) for name in _MEMORIES},
        "traffic (bytes)": {name: int(float(row[f"{name}_total_bytes"])) for name in _MEMORIES},
    }


def _operators(data: bytes) -> dict[str, int]:
    """The operators of the compiled file: `ethos-u` is one command stream of the NPU, any other
    runs on the CPU beside it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    operators: Counter[str] = Counter()
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        custom = code.customCode.decode() if code.customCode else ""
        operators[custom or names[max(code.builtinCode, code.deprecatedBuiltinCode)]] += 1
    return dict(sorted(operators.items()))

"""The compile stage: the Program as a march's binary, with its performance report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from qatspec.backend import compile as compile_program, write_perf
from qatspec.diag.codes import QS806
from qatspec.export.float32 import without_quantization
from qatspec.export.qdq import any_batch
from qatspec.program import Artifact, Program, load_program
from qatspec.registry import registry
from qatspec.spec import feeds
from qatspec.stages.context import Context, Exactness, Outcome
from qatspec.stages.convert import demand_exact
from qatspec.stages.integers import (
    compare,
    judge as judge_integers,
    open_host,
    real_inputs,
)
from qatspec.train.files import write_bytes, write_json, writing

#: Sections that are written as files of their own, for a runtime that takes them.
_TAKEN_BY_RUNTIMES = (".onnx", ".tflite")


def run(context: Context) -> Outcome:
    """Compile the convert stage's Program for the spec's march. A file that promises no equality
    with the Program is judged itself, and measured, on images of data.val."""
    source = context.workdir / str(context.source)
    program = load_program(source / f"{context.spec.name}.program")
    outputs, exact = compile_to_files(context, program, context.spec.march, source)
    return Outcome(metrics=_metrics(context, source), outputs=outputs, exact=exact)


def _metrics(context: Context, source: Path) -> dict[str, float]:
    """Metrics of a file that promises no equality with the Program; those of others are the
    Program's."""
    if registry().march(context.spec.march).bit_exact:
        return {}
    loaded = Artifact.load(context.folder / f"{context.spec.name}.bin")
    host = open_host(source, context.spec.name, loaded.tree)
    return judge_integers(context, loaded, loaded.tree, host)


def compile_to_files(
    context: Context, program: Program, march: str, source: Path, *, measured: bool = True
) -> tuple[tuple[Path, ...], dict[str, Exactness]]:
    """Write `<name>.bin` and, where its time is modelled or measured, `.perf.json` and
    `.perf.html`; where the file holds an ONNX or a TFLite file, `<name>-<march>.onnx` or `.tflite`.
    Run the file as it lies on disk beside the Program on real images.

    source: the folder of convert's files. measured: whether a march that measures its files does.

    Raises DiagnosticError: QS806 where it cannot be fed `rt_input_type`, QS922 when a march that
    promises equality gives other integers."""
    stage = context.spec.stages.get("compile")
    options = stage.options if stage else {}
    host = open_host(source, context.spec.name, program.tree)
    asked = feeds(options, context.inputs)
    is_single = "" in context.inputs and asked[""].kind != "featuremap"
    if is_single and host is not None and host.pre is not None:
        raise QS806.error(
            "the model begins with float ops on the host: what the compiled file is "
            "fed is not an image",
            help="delete `rt_input_type`, or move those ops out of forward",
            at="/stages/compile/rt_input_type",
        )
    artifact = compile_program(program, march, image=context.inputs, **options)
    inputs = real_inputs(context, artifact, host)
    binary = context.folder / f"{context.spec.name}.bin"
    stem = context.folder / context.spec.name
    if measured and registry().march(march).measure is not None:
        qat_onnx = None if host else source / f"{context.spec.name}-qat.onnx"
        artifact, perf = _measure(program, artifact, inputs, qat_onnx, stem)
    else:
        perf = write_perf(artifact, stem)
    with writing(binary) as temporary:
        artifact.save(temporary)
    files = [binary, *perf]
    for section, ending in endings(artifact.sections).items():
        files.append(context.folder / f"{context.spec.name}-{march}{ending}")
        write_bytes(files[-1], artifact.sections[section])
    loaded = Artifact.load(binary)
    exactness = compare(program, loaded, inputs)
    if registry().march(march).bit_exact:
        demand_exact(binary, exactness)
    return tuple(files), {binary.name: exactness}


def endings(sections: Iterable[str]) -> dict[str, str]:
    """Section that a runtime takes -> the end of its file's name: `.onnx`, `.tflite`. Of several,
    `model` has that, `model_vela` ends with `_vela.tflite`, and `other` with `-other.tflite`."""
    taken = [section for section in sections if section.endswith(_TAKEN_BY_RUNTIMES)]
    ends = {}
    for section in taken:
        stem, _, suffix = section.rpartition(".")
        alone = sum(other.endswith(f".{suffix}") for other in taken) == 1
        which = stem.removeprefix("model") if stem.startswith("model") else f"-{stem}"
        ends[section] = f".{suffix}" if alone else f"{which}.{suffix}"
    return ends


def _measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    qat_onnx: Path | None,
    stem: Path,
) -> tuple[Artifact, tuple[Path, ...]]:
    """Measure a compiled file on real inputs. Returns it with the findings in its manifest, and
    `<stem>.perf.json` where its time was measured."""
    march = registry().march(artifact.march)
    float32 = None
    if qat_onnx is not None and qat_onnx.exists():
        float32 = without_quantization(any_batch(onnx.load(qat_onnx))).SerializeToString()
    assert march.measure is not None
    with registry().attribute_errors(march, f"march `{march.name}`, measuring `{program.name}`,"):
        ints = [artifact.feed(ports) for ports in inputs]
        measured = march.measure(program, artifact, ints, float32)
    manifest = {**artifact.manifest, **measured.get("manifest", {})}
    files = []
    if "perf" in measured:
        files.append(Path(f"{stem}.perf.json"))
        write_json(files[0], {"summary": measured["perf"]})
    return replace(artifact, manifest=manifest), tuple(files)

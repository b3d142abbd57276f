"""The convert stage: QAT ONNX, the integer Program, and the Program as ONNX ."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from qatspec.diag import Span
from qatspec.diag.codes import QS922
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.export.host import POST, PRE, export_host
from qatspec.files import encoded
from qatspec.graph import Prepared
from qatspec.graph.deploy import Deployment, deploy
from qatspec.graph.host import Host
from qatspec.language import default
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.plan.checkpoints import sha256_of
from qatspec.prepare import set_stage
from qatspec.program import Program, load_program, save_program
from qatspec.program.outputs import outputs_header, outputs_record
from qatspec.spec import preprocessing
from qatspec.stages.context import Context, Exactness, Outcome
from qatspec.stages.float16 import write_float16
from qatspec.stages.handoff import write_handoff
from qatspec.stages.integers import compare, judge as judge_program, open_host, real_inputs
from qatspec.stages.loading import load_source
from qatspec.train.files import write_bytes, write_json, writing

_PROGRAM, _CONVERTED = ".program", "-converted.onnx"
_ENDS = ("-qat.onnx", _CONVERTED, _PROGRAM, "-outputs.json", "-outputs.h")


class _Made(NamedTuple):
    """What rank 0 has made: the files of the stage, and how they were verified."""

    outputs: tuple[Path, ...]
    exact: dict[str, Exactness]


def run(context: Context) -> Outcome:
    """Convert the stage's source (qat, or calibration where there is no qat) and judge the Program
    itself on data.val. Rank 0 converts, and all processes judge."""
    return _judged(context, context.group.from_main(lambda: _make(context.alone())))


def _make(context: Context) -> _Made:
    prepared = context.prepare(str(context.source))
    load_source(context, prepared.model)
    set_stage(prepared, "eval")
    return _Made(*convert(context, prepared)[1:])


def judge(context: Context) -> Outcome:
    """Evaluate the Program of the finished stage again, without converting."""
    return _judged(context, context.group.from_main(lambda: _copy(context.alone())))


def _copy(context: Context) -> _Made:
    """The files of the finished stage, verified again."""
    finished = context.workdir / context.stage
    names = sorted(p.name for p in finished.glob(f"{context.spec.name}*") if p.is_file())
    for name in names:
        write_bytes(context.folder / name, (finished / name).read_bytes())
    files = {end: context.folder / f"{context.spec.name}{end}" for end in _ENDS}
    exact = verify_converted(context, load_program(files[_PROGRAM]), files[_CONVERTED])
    return _Made(tuple(context.folder / n for n in names), exact)


def _judged(context: Context, made: _Made) -> Outcome:
    shipped = [p for p in made.outputs if p.name.endswith((_PROGRAM, PRE, POST))]
    folder = _within_reach(context, shipped)
    program = load_program(folder / f"{context.spec.name}{_PROGRAM}")
    host = open_host(folder, context.spec.name, program.tree)
    metrics = judge_program(context, program, program.tree, host)
    if not context.group.is_main:
        return Outcome(metrics=metrics)
    contents = "".join(sha256_of(path) for path in sorted(shipped))
    reproducible = {"program": hashlib.sha256(contents.encode()).hexdigest()}
    return Outcome(metrics=metrics, outputs=made.outputs, exact=made.exact, gives=reproducible)


def _within_reach(context: Context, paths: Sequence[Path]) -> Path:
    """The folder where this process finds the files `paths` of rank 0, which every process calls:
    a folder of its own on another machine."""
    group = context.group
    contents = group.from_main(lambda: [path.read_bytes() for path in paths])
    if group.scratch is None:
        return context.folder
    folder = group.scratch / "convert"
    folder.mkdir(exist_ok=True)
    for path, content in zip(paths, contents, strict=True):
        write_bytes(folder / path.name, content)
    return folder


def convert(
    context: Context, prepared: Prepared, deployment: Deployment | None = None
) -> tuple[Program, tuple[Path, ...], dict[str, Exactness]]:
    """Write `<name>-qat.onnx`, `<name>-converted.onnx`, `<name>.program` and the scales of its
    outputs, `<name>-outputs.json` and `.h`, of a model in eval stage; where forward does more than
    what is prepared, `<name>-pre.onnx` and `<name>-post.onnx` too; with `float16`, files of that
    type; with `handoff`, those for a vendor's tools. Gives the Program, the files,
    and how the converted ONNX compares on real images.

    deployment: that of the model and one example, where the caller has it.

    Raises DiagnosticError QS922 when onnxruntime gives other integers than the Program."""
    name = context.spec.name
    stage = context.spec.stages.get("convert")  # `check` and `convert` need none in the spec
    options = stage.options if stage else {k: default("convert_stage", k) for k in ("opset", "qdq")}
    opset, batch = options["opset"], options.get("batch")
    files = [context.folder / f"{name}{end}" for end in _ENDS]
    qat_onnx, converted, program_file, record, header = files

    example = context.example
    deployment = deployment or deploy(prepared, example)
    image = preprocessing(context.spec)
    program = lower(prepared, example, name=name, deployment=deployment)
    program = replace(program, image=image)
    with writing(program_file) as temporary:
        save_program(program, temporary)
    with writing(qat_onnx) as temporary:
        warnings = export_qat_onnx(
            prepared,
            temporary,
            example,
            name=name,
            deployment=deployment,
            image=image,
            opset=opset,
            qdq=options["qdq"],
            batch=batch,
        )
    for warning in warnings:
        context.report("log", {"message": warning.message, "diagnostic": warning})
    with writing(converted) as temporary:
        to_onnx(program, temporary, opset=opset)
    host = host_parts(deployment)
    parts = export_host(prepared, host, context.folder, name, opset=opset)
    files += parts
    described = {**outputs_record(program), "host": {"before": host.before, "after": host.after}}
    if "handoff" in options:
        files += write_handoff(context, deployment, options["handoff"], batch or 1)
    if options.get("float16"):
        halves = write_float16(context, program, (qat_onnx, *parts), batch)
        files += halves
        described["float16"] = {path.name: apart for path, apart in halves.items()}
    if host.pre or host.post:
        context.report("log", {"message": f"on the host, in float: {_on_host(host)}"})
    write_json(record, described)
    write_bytes(header, encoded(outputs_header(program)))

    return program, tuple(files), verify_converted(context, program, converted)


def verify_converted(context: Context, program: Program, converted: Path) -> dict[str, Exactness]:
    """How the converted ONNX compares with the Program on real images, by file name.

    Raises DiagnosticError QS922 when onnxruntime gives other integers."""
    name = context.spec.name
    exact = {
        f"{name}{_PROGRAM}": Exactness(bit_exact=True, max_lsb=0, compared="the Program itself")
    }
    if importlib.util.find_spec("onnxruntime") is None:
        context.report("log", {"message": "onnxruntime is not installed: the ONNX was not run"})
    else:
        inputs = real_inputs(context, program, open_host(context.folder, name, program.tree))
        exact[converted.name] = compare(program, OnnxRunner.load(converted), inputs)
        demand_exact(converted, exact[converted.name])
    return exact


def _on_host(host: Host) -> str:
    before = [f"{', '.join(host.before)} before the Program"] if host.before else []
    behind = [f"{', '.join(host.after)} behind the Program"] if host.after else []
    return "; ".join((*before, *behind))


def demand_exact(path: Path, exactness: Exactness) -> None:
    """Raise DiagnosticError QS922 unless the file gave the Program's integers."""
    if not exactness.bit_exact:
        raise QS922.error(
            f"`{path.name}` differs from the Program on real images by up to {exactness.max_lsb}",
            help="do not ship it; report it with the spec and the checkpoint",
            span=Span(file=str(path)),
        )

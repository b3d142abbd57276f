"""The convert stage: QAT ONNX, the integer Program, and the Program as ONNX (contracts 21)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.graph import Prepared
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.lower.split import Host, host_parts
from qatspec.onnx import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.onnx.host import export_host
from qatspec.prepare import set_stage
from qatspec.program import Program, save_program
from qatspec.program.outputs import outputs_header, outputs_record
from qatspec.stages.context import Context, Exactness, Outcome
from qatspec.stages.integers import compare, judge, open_host, real_inputs
from qatspec.stages.loading import load_source
from qatspec.train.files import write_bytes, write_json, writing


def run(context: Context) -> Outcome:
    """Convert the stage's source (qat, or calibration where there is no qat) and judge the Program
    itself on data.val."""
    prepared = context.prepare(str(context.source))
    load_source(context, prepared.model)
    set_stage(prepared, "eval")
    program, outputs, exact = convert(context, prepared)
    host = open_host(context.folder, context.spec.name, program.tree)
    metrics = judge(context, program, program.tree, host)
    return Outcome(metrics=metrics, outputs=outputs, exact=exact)


def convert(
    context: Context, prepared: Prepared
) -> tuple[Program, tuple[Path, ...], dict[str, Exactness]]:
    """Write `<name>-qat.onnx`, `<name>-converted.onnx`, `<name>.program` and the scales of its
    outputs, `<name>-outputs.json` and `.h`, of a model in eval stage; where forward does more than
    what is prepared, `<name>-pre.onnx` and `<name>-post.onnx` too. Gives the Program, the files,
    and how the converted ONNX compares on real images.

    Raises DiagnosticError QS922 when onnxruntime gives other integers than the Program."""
    name = context.spec.name
    opset = _opset(context)
    ends = ("-qat.onnx", "-converted.onnx", ".program", "-outputs.json", "-outputs.h")
    files = [context.folder / f"{name}{end}" for end in ends]
    qat_onnx, converted, program_file, record, header = files

    example = (context.example,)
    deployment = deploy(prepared, example)
    program = lower(prepared, example, name=name, deployment=deployment)
    with writing(program_file) as temporary:
        save_program(program, temporary)
    with writing(qat_onnx) as temporary:
        export_qat_onnx(prepared, temporary, example, name=name, deployment=deployment, **opset)
    with writing(converted) as temporary:
        to_onnx(program, temporary, **opset)
    host = host_parts(deployment)
    files += export_host(prepared, host, context.folder, name, **opset)
    if host.pre or host.post:
        context.report("log", {"message": f"on the host, in float: {_on_host(host)}"})
    write_json(
        record, {**outputs_record(program), "host": {"before": host.before, "after": host.after}}
    )
    write_bytes(header, outputs_header(program).encode())

    exact: dict[str, Exactness] = {
        program_file.name: Exactness(bit_exact=True, max_lsb=0, compared="the Program itself")
    }
    if importlib.util.find_spec("onnxruntime") is None:
        context.report("log", {"message": "onnxruntime is not installed: the ONNX was not run"})
    else:
        inputs = real_inputs(context, program, open_host(context.folder, name, program.tree))
        exact[converted.name] = compare(program, OnnxRunner.load(converted), inputs)
        demand_exact(converted, exact[converted.name])
    return program, tuple(files), exact


def _on_host(host: Host) -> str:
    before = [f"{', '.join(host.before)} before the Program"] if host.before else []
    behind = [f"{', '.join(host.after)} behind the Program"] if host.after else []
    return "; ".join((*before, *behind))


def demand_exact(path: Path, found: Exactness) -> None:
    """Raise DiagnosticError QS922 unless the file gave the Program's integers."""
    if not found.bit_exact:
        raise DiagnosticError(
            Diagnostic(
                code="QS922",
                message=f"`{path.name}` differs from the Program on real images by up to "
                f"{found.max_lsb}",
                help="do not ship it; report it with the spec and the checkpoint",
                span=Span(file=str(path)),
            )
        )


def _opset(context: Context) -> dict[str, Any]:
    """The keyword of the ONNX writers where the file itself sets it: the schema's default gives way
    to what the dtypes need (contracts 18)."""
    written = context.spec.document.data["stages"].get("convert") or {}
    return {"opset": written["opset"]} if "opset" in written else {}

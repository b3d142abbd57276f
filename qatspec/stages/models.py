"""Any stage's result as one callable: images in, raw outputs out."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from qatspec.diag import Span
from qatspec.diag.codes import QS924
from qatspec.export import OnnxRunner
from qatspec.export.host import POST, PRE, HostRunner
from qatspec.graph import Prepared
from qatspec.plan.checkpoints import SUFFIX, checkpoint_path
from qatspec.prepare import set_stage
from qatspec.program import Artifact, Program, load_program
from qatspec.stages.context import Context
from qatspec.stages.integers import open_host, produce_with
from qatspec.train.checkpoint import load, load_weights
from qatspec.train.evaluate import Produce

Integers = Program | Artifact | OnnxRunner


def result_file(context: Context, result: str) -> Path:
    """The file of a stage's result in the work directory."""
    name = context.spec.name
    if result == "integer":
        return context.results("convert") / f"{name}.program"
    if result == "bin":
        return context.results("compile") / f"{name}.bin"
    return checkpoint_path(context.results(result), result, "best")


def open_model(context: Context, path: Path) -> Produce:
    """The model of a checkpoint, `.program`, `-converted.onnx` or `.bin` file, ready to judge.

    Raises DiagnosticError: QS924 for another kind of file, and what reading it raises.
    """
    if path.name.endswith(SUFFIX):
        return _open_checkpoint(context, path)
    ported = open_integers(path)
    host = host_of(context, path, ported)
    return produce_with(ported, ported.tree, host, tuple(context.inputs))


def host_of(context: Context, path: Path, ported: Integers) -> HostRunner | None:
    """The float parts around the integers of `path`: beside them, or where convert put them. None
    where there are none. Raises DiagnosticError QS725."""
    files = [f"{context.spec.name}{end}" for end in (PRE, POST)]
    folder = path.parent
    if not any((folder / file).exists() for file in files):
        folder = context.results("convert", *files)
    return open_host(folder, context.spec.name, ported.tree)


def open_integers(path: Path) -> Integers:
    """A `.program`, `-converted.onnx` or `.bin` file, which need no spec to run.

    Raises DiagnosticError: QS924 for another kind of file, and what reading it raises.
    """
    if path.suffix == ".program":
        return load_program(path)
    if path.suffix == ".bin":
        return Artifact.load(path)
    if path.name.endswith("-converted.onnx"):
        return OnnxRunner.load(path)
    if path.name.endswith(SUFFIX) and path.exists():
        raise QS924.error(
            f"the checkpoint `{path.name}` holds weights, and no model",
            help=f"name the spec that it was trained with: `qatspec infer SPEC --model {path}`",
            span=Span(file=str(path)),
        )
    kinds = f"a checkpoint (*{SUFFIX}), *.program, *-converted.onnx or *.bin"
    beside = _runnable_beside(path) if path.suffix == ".onnx" else []
    raise QS924.error(
        f"`{path.name}` is not a model that qatspec runs",
        help=f"give `{beside[0]}`, the same model for qatspec" if beside else f"give {kinds}",
        span=Span(file=str(path)),
    )


def _runnable_beside(path: Path) -> list[str]:
    """Names of the model files of qatspec beside a file that was written for other runtimes."""
    ends = (".bin", "-converted.onnx", ".program")
    if not path.exists():
        return []
    return [p.name for end in ends for p in sorted(path.parent.glob(f"*{end}"))]


def open_prepared(context: Context, path: Path) -> tuple[Prepared, str]:
    """(the prepared model of a quantized checkpoint in eval stage, the checkpoint's march).

    Raises DiagnosticError QS924 for a float checkpoint."""
    checkpoint = load(path)
    if checkpoint.stage == "float":
        raise QS924.error(
            f"`{path.name}` is a float checkpoint, which has no scales to convert with",
            help="give a checkpoint of the qat or the calibration stage",
            span=Span(file=str(path)),
        )
    prepared = context.prepare(checkpoint.stage, trained_for=checkpoint.march or None)
    context.warn(load_weights(prepared.model, checkpoint.weights, source=path))
    set_stage(prepared, "eval")
    return prepared, checkpoint.march


def _open_checkpoint(context: Context, path: Path) -> nn.Module:
    checkpoint = load(path)
    if checkpoint.stage != "float":
        return open_prepared(context, path)[0].model.to(context.device)
    model = context.build_model()
    load_weights(model, checkpoint.weights, source=path)
    return model.to(context.device).eval()

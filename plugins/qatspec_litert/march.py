"""The marches `litert` and `litert_reference`: a TFLite file, run by LiteRT's interpreter."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.api import Artifact, Diagnostic, DiagnosticError, Port, Verdict, codes
from qatspec_litert.plan import plan

if TYPE_CHECKING:
    from qatspec.api import Op, Program

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
MODEL = "model.tflite"
_CHANGE = "change the module to fit"


def supports(march: str, form: str, op: Op, program: Program) -> Verdict:
    """Return whether a TFLite file holds `op` exactly; if not, why."""
    refused = plan(program, form, march).refused.get(op.output)
    return Verdict(True) if refused is None else Verdict(False, refused.reason, refused.fix)


def compile_tflite(march: str, form: str, program: Program, options: Mapping[str, Any]) -> Artifact:
    """The Program as a TFLite file. Raises DiagnosticError: QS801 for ops that the file cannot hold
    exactly, QS804 without ai-edge-litert."""
    written = plan(program, form, march)
    if written.refused:
        raise DiagnosticError(
            _refusal(op, written.refused[op.output])
            for op in program.ops
            if op.output in written.refused
        )
    runtime()
    data = written.encoded()
    return Artifact(
        march=march,
        inputs=program.inputs,
        outputs=program.outputs,
        manifest={
            "name": program.name,
            "program": hashlib.sha256(program.to_bytes()).hexdigest(),
            "tree": program.tree,
            "bit_exact": True,
            "max_lsb": 0,
            "kernels": "XNNPACK" if form == "float32" else "reference",
            "options": dict(options),
        },
        sections={MODEL: data},
    )


def _refusal(op: Op, problem: Any) -> Diagnostic:
    where = op.origin.module or op.origin.node or op.output
    return codes.QS801.diagnostic(
        f"`{where}` ({op.kind}): {problem.reason}",
        help=f"{problem.fix or _CHANGE}, or choose another march",
        at=op.origin.rule or None,
    )


def run(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Integers in, integers out, image by image. The interpreter is built once and lives as long as
    the artifact.

    Raises DiagnosticError: QS804 without ai-edge-litert, QS811 where the artifact holds no file
    that loads.
    """
    loaded = _LOADED.get(artifact)
    if loaded is None:
        loaded = _LOADED[artifact] = load(artifact)
    images = [loaded([x[i : i + 1] for x in ints]) for i in range(len(ints[0]))]
    return [np.concatenate(parts) for parts in zip(*images, strict=True)]


_LOADED: weakref.WeakKeyDictionary[Artifact, Run] = weakref.WeakKeyDictionary()


def load(artifact: Artifact) -> Run:
    """An interpreter of the artifact's file, for one image at a time."""
    interpreter = open_interpreter(artifact)
    sources, results = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = artifact.real_inputs, artifact.outputs

    def run_one(ints: Sequence[np.ndarray]) -> list[np.ndarray]:
        for port, source, x in zip(inputs, sources, ints, strict=True):
            interpreter.set_tensor(source["index"], to_file(port, x))
        interpreter.invoke()
        return [
            from_file(port, interpreter.get_tensor(result["index"]))
            for port, result in zip(outputs, results, strict=True)
        ]

    return run_one


def open_interpreter(artifact: Artifact) -> Any:
    """LiteRT's interpreter with the kernels that the artifact was compiled for."""
    module = runtime()
    data, kernels = artifact.sections.get(MODEL), artifact.manifest.get("kernels")
    if data is None or kernels not in ("XNNPACK", "reference"):
        raise _broken("it holds no TFLite file")
    resolver = module.OpResolverType
    try:
        interpreter = module.Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=(
                resolver.AUTO if kernels == "XNNPACK" else resolver.BUILTIN_REF
            ),
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        raise _broken(str(problem).splitlines()[0][:200]) from problem
    return interpreter


def to_file(port: Port, x: np.ndarray) -> np.ndarray:
    """The Program's integers as the file takes them."""
    if x.dtype == np.uint8:
        x = (x.astype(np.int16) - 128).astype(np.int8)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if len(port.shape) == 3 else x)


def from_file(port: Port, x: np.ndarray) -> np.ndarray:
    """The file's integers as the Program has them."""
    if port.dtype == "uint8":
        x = (x.astype(np.int16) + 128).astype(np.uint8)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if len(port.shape) == 3 else x)


def runtime() -> Any:
    """The module of LiteRT's interpreter. Raises DiagnosticError QS804 without it."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as problem:
        raise codes.QS804.error(
            "this march needs ai-edge-litert, which is not installed",
            help="pip install 'qatspec[litert]'",
        ) from problem
    return interpreter


def _broken(why: str) -> DiagnosticError:
    return codes.QS811.error(
        f"not a program compiled for LiteRT: {why}",
        help="compile it again with `qatspec convert`",
    )

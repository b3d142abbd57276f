"""OnnxRunner: a converted ONNX in onnxruntime, with the ports that its metadata states."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx

from qatspec.diag import Span
from qatspec.diag.codes import QS721, QS722, QS723
from qatspec.export.converted import FORMAT, METADATA, OPSET
from qatspec.export.saturation import PRECISION
from qatspec.ir import IntegerModel, check_inputs
from qatspec.onnxgraph import BATCH, GraphWriter
from qatspec.onnxgraph.seal import demand_intact
from qatspec.program.artifact import port_of
from qatspec.program.container import read_file


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxRunner(IntegerModel):
    """An ONNX file in onnxruntime.

    inputs, outputs         ports, as the Program has them.
    march, program, tree    what the file says of itself: its march, the Program's digest, and the
                            structure of the outputs.
    session                 the onnxruntime session.
    """

    march: str | None
    program: str
    tree: Any
    session: Any = field(repr=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 0) -> OnnxRunner:
        """Open the file that `to_onnx` wrote to `path` and test this CPU's kernels on extremes.

        threads: of onnxruntime, 0 = all cores. Returns the runner. Raises DiagnosticError: QS721
        another file, QS722 an inexact CPU, QS723 no onnxruntime.
        """
        self_test()
        data = read_file(path, QS721, "converted ONNX")
        try:
            demand_intact(data)
            model = onnx.load_from_string(data)
            record = json.loads({p.key: p.value for p in model.metadata_props}[METADATA])
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']} is not {FORMAT}")
            return cls(
                inputs=tuple(port_of(r) for r in record["inputs"]),
                outputs=tuple(port_of(r) for r in record["outputs"]),
                march=record["march"],
                program=record["program"],
                tree=record["tree"],
                image=record.get("image"),
                session=open_session(data, threads),
            )
        except Exception as problem:  # protobuf and onnxruntime raise their own
            raise QS721.error(
                f"not a converted ONNX of qatspec: {first_line(problem)}",
                help="give the `-converted.onnx` that convert wrote, or run convert again",
                span=Span(os.fspath(path)),
            ) from problem

    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs in onnxruntime.

        ints: an array (N, ...) for each input port, in its dtype. Returns an array for each output
        port. Raises DiagnosticError QS712 on arrays that do not fit.
        """
        arrays = check_inputs(self, ints)
        feeds = {i.name: array for i, array in zip(self.session.get_inputs(), arrays, strict=True)}
        return list(self.session.run(None, feeds))


def first_line(problem: Exception) -> str:
    """What an exception says, in one line of a message."""
    if isinstance(problem, KeyError):
        return f"it lacks {problem}"
    return (str(problem) or type(problem).__name__).splitlines()[0][:200]


def runtime() -> Any:
    """The onnxruntime module. Raises DiagnosticError QS723 where it is not installed."""
    try:
        import onnxruntime
    except ImportError as problem:
        raise QS723.error(
            "onnxruntime is not installed", help="pip install 'qatspec[onnxruntime]'"
        ) from problem
    return onnxruntime


def open_session(data: bytes, threads: int) -> Any:
    """Open an ONNX file in onnxruntime on the CPU, with kernels that do not saturate where its
    fastest ones do.

    data     the bytes of the file.
    threads  threads of one operator; 0: all cores.

    Returns an onnxruntime.InferenceSession. Raises DiagnosticError QS723 without onnxruntime, and
    what onnxruntime raises for a file that it cannot load.
    """
    return _session(data, session_options(threads))


def session_options(threads: int, *, of_uint8: bool = True) -> Any:
    """Options of a session: kernels that do not saturate where this CPU's fastest ones do.
    threads: 0 = all. of_uint8: the file may have uint8 tensors; products of int8 alone are exact
    where int8 is kept, and have no kernels for what these options make of their weights."""
    options = _plain_options(threads)
    if of_uint8 and saturates():
        options.add_session_config_entry(PRECISION, "1")
    return options


@cache
def saturates() -> bool:
    """Return whether onnxruntime's fastest 8-bit kernels saturate on this CPU, by a trial."""
    return not _is_exact(lambda data: _session(data, _plain_options(1)))


@cache
def self_test() -> None:
    """Check that sessions of `open_session` are exact on this CPU, once a process.

    Raises DiagnosticError QS722 where they are not.
    """
    if not _is_exact(lambda data: open_session(data, 1)):
        raise QS722.error(
            "onnxruntime's 8-bit kernels saturate on this CPU",
            help="evaluate the Program itself: its executor is exact everywhere",
        )


def _plain_options(threads: int) -> Any:
    options = runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options


def _session(data: bytes, options: Any) -> Any:
    return runtime().InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _is_exact(open_: Callable[[bytes], Any]) -> bool:
    """Send extremes through ConvInteger and MatMulInteger, signed and unsigned, and return whether
    every sum is right. open_: gives the session of an ONNX file's bytes."""
    for unsigned in (False, True):
        dtype = np.uint8 if unsigned else np.int8
        info = np.iinfo(dtype)
        x = np.full((1, 32, 6, 6), info.max, dtype)
        x[:, ::2, ::3] = info.min
        weight = np.full((8, 32, 3, 3), 127, np.int8)
        weight[:, ::2] = -128
        weight[::3] = 127
        writer = GraphWriter("self_test")
        writer.input("x", dtype, [BATCH, *x.shape[1:]])
        conv = writer.node("ConvInteger", ["x", writer.const("w", weight, np.int8)], "conv")
        matrix = writer.const("m", weight[:, :6, 0, 0].T, np.int8)
        product = writer.node("MatMulInteger", ["x", matrix], "product")
        writer.output(conv, "conv", np.int32, [BATCH, 8, 4, 4])
        writer.output(product, "product", np.int32, [BATCH, 32, 6, 8])
        session = open_(writer.model(OPSET, {}).SerializeToString())
        view = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), axis=(2, 3))
        expected = [
            np.einsum("nchwij,ocij->nohw", view, weight.astype(np.int64)),
            x.astype(np.int64) @ weight[:, :6, 0, 0].T.astype(np.int64),
        ]
        results = session.run(["conv", "product"], {"x": x})
        if not all(np.array_equal(f, e) for f, e in zip(results, expected, strict=True)):
            return False
    return True

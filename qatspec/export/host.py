"""The float parts of a model around its Program: written as ONNX, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS721, QS725
from qatspec.export.by_torch import write_by_torch
from qatspec.export.qdq import tree_of, write_graph
from qatspec.export.runner import first_line, open_session
from qatspec.graph import Prepared
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import quantize_custom
from qatspec.graph.host import Host
from qatspec.ir import HOST
from qatspec.onnxgraph.seal import demand_intact
from qatspec.program.container import read_file
from qatspec.spec import needed_opset

PRE, POST = "-pre.onnx", "-post.onnx"


def export_host(
    prepared: Prepared, host: Host, folder: Path, name: str, opset: int | None = None
) -> tuple[Path, ...]:
    """Write `<name>-pre.onnx` and `<name>-post.onnx`, those that there are: floats in, floats out.
    Raises DiagnosticError QS724 for an op without ONNX form, torch's own exporter included."""
    prepared = quantize_custom(prepared)
    written = []
    for graph, end in ((host.pre, PRE), (host.post, POST)):
        if graph is not None:
            path = folder / f"{name}{end}"
            context = GraphContext(prepared.model, graph, prepared.march)
            number = opset or needed_opset(())
            try:
                write_graph(context, path, number, name)
            except DiagnosticError as refusal:  # an op that no quant handler knows
                write_by_torch(context, path, number, refusal)
            written.append(path)
    return tuple(written)


@dataclass(frozen=True, slots=True)
class HostRunner:
    """Sessions of the float parts, and how the outputs of `post` nest; None where there is none."""

    pre: Any = None
    post: Any = None
    tree: Any = None

    @classmethod
    def load(cls, folder: Path, name: str) -> HostRunner:
        """What `export_host` wrote. Raises DiagnosticError: QS725 where neither part is there,
        QS721 where one is damaged, QS723 without onnxruntime."""
        pre, post = folder / f"{name}{PRE}", folder / f"{name}{POST}"
        if not pre.exists() and not post.exists():
            raise QS725.error(
                f"the float parts of the model, `{pre.name}` or `{post.name}`, are not "
                "beside its integers",
                help="keep the files of one convert step together, or run it again",
                span=Span(file=str(folder)),
            )
        before = _open(pre)[0] if pre.exists() else None
        behind, tree = _open(post) if post.exists() else (None, None)
        return cls(before, behind, tree)

    def before(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The model's inputs to the Program's, as real numbers."""
        return _run(self.pre, inputs)

    def behind(
        self, tree: Any, outputs: Sequence[np.ndarray], inputs: Sequence[np.ndarray] = ()
    ) -> tuple[Any, list[np.ndarray]]:
        """(tree, flat outputs) of the model from the Program's, as real numbers. tree: the
        Program's; inputs: the model's, which few post-processes read."""
        inner = tree[HOST]
        if self.post is None:
            return inner, list(outputs)
        return self.tree, _run(self.post, self.fed_behind(tree, outputs, inputs))

    def fed_behind(
        self, tree: Any, outputs: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The inputs of the part behind the Program, in its order; arguments as of `behind`."""
        carried = [outputs[i] for i in tree[HOST]]
        reads_inputs = len(self.post.get_inputs()) > len(carried)
        return [*carried, *inputs] if reads_inputs else carried


def network_feeds(
    names: Sequence[str], inputs: Sequence[np.ndarray], host: HostRunner | None
) -> dict[str, np.ndarray]:
    """The inputs of a QAT ONNX by name: those of the model, or what the host computes of them.

    names: its inputs. inputs: those of the model. host: the parts beside the file, if any.
    """
    if host is None or host.pre is None:
        return dict(zip(names, inputs, strict=True))
    computed = dict(zip((p.name for p in host.pre.get_inputs()), inputs, strict=True))
    results = (port.name for port in host.pre.get_outputs())
    computed.update(zip(results, host.before(*inputs), strict=True))
    return {name: computed[name] for name in names}


def _run(part: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    if part is None:
        return list(arrays)
    feeds = {i.name: x for i, x in zip(part.get_inputs(), arrays, strict=True)}
    return list(part.run(None, feeds))


def _open(path: Path) -> tuple[Any, Any]:
    data = read_file(path, QS721, "float part of a model")
    try:
        demand_intact(data)
        return open_session(data, 0), tree_of(onnx.load_from_string(data))
    except DiagnosticError:
        raise
    except Exception as problem:  # protobuf and onnxruntime raise their own
        raise QS721.error(
            f"`{path.name}` cannot be read: {first_line(problem)}",
            help="run the convert step again",
            span=Span(file=str(path)),
        ) from problem

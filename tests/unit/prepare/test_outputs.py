"""Outputs that are no tensors are told in prepare, and the way out works."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.analyze.compare import compare_layers
from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx, runner, to_onnx
from qatspec.export.host import HostRunner, export_host
from qatspec.export.qdq import tree_of
from qatspec.export.runner import OnnxRunner
from qatspec.graph.deploy import deploy
from qatspec.ir import outputs_of, unflatten
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.prepare import prepare, set_stage
from qatspec.program import load_program, save_program
from qatspec.stages.integers import produce_with
from tests.layers import Op
from tests.unit.export.test_qdq import run

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, give: Callable[[Net, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.give = nn.Conv2d(3, 4, 3), give
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("anchors", torch.arange(12.0).view(1, 6, 2))

    def forward(self, x: Tensor) -> Any:
        return self.give(self, x, self.conv(x))


#: what forward returns -> what the warnings say
REFUSED: dict[str, tuple[Callable[[Any, Tensor, Tensor], Any], str]] = {
    "the batch": (lambda net, x, y: (y, x.shape[0]), "returns a size at [1]"),
    "a shape with the batch": (lambda net, x, y: {"y": y, "size": x.shape}, "at ['size']"),
    "infinity": (lambda net, x, y: (y, float("inf")), "the constant inf at [1]"),
    "a type": (lambda net, x, y: (y, torch.float16), "the constant torch.float16 at [1]"),
}
CONSTANTS: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "tensors": lambda net, x, y: {"a": y, "b": [y.relu(), y + 1]},
    "none": lambda net, x, y: {"a": y, "b": None},
    "none in a tuple": lambda net, x, y: (None, y),
    "a number": lambda net, x, y: (y, 0.5),
    "a flag": lambda net, x, y: {"y": y, "aux": False},
    "a text": lambda net, x, y: {"y": y, "kind": "boxes"},
    "sizes": lambda net, x, y: (y, (y.shape[2], y.shape[3])),
    "a shape": lambda net, x, y: {"y": y, "size": x.shape[2:]},
    "the same twice": lambda net, x, y: [y, None, y, 3, 3],
    "an output again as a number": lambda net, x, y: [y, 0, {"n": 0, "y": y}],
    "a dict in its order": lambda net, x, y: {"y": y, "b": {"z": y + 1, "a": None}, "$": 3},
    "a named tuple": lambda net, x, y: Named(y, {"second": y + 1, "first": y}),
    "names of torch": lambda net, x, y: y.max(1),
}


def _prepared(give: Callable[[Any, Tensor, Tensor], Any]):
    prepared = prepare(Net(give), (X,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(X)
    set_stage(prepared, "eval")
    return prepared


@pytest.mark.parametrize("kind", REFUSED)
def test_told_in_prepare_what_convert_refuses(kind: str) -> None:
    give, text = REFUSED[kind]
    prepared = _prepared(give)
    found = [w for w in prepared.warnings if w.code == "QS514"]
    assert any(text in w.message for w in found), found
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (X,))
    refused = caught.value.diagnostics[0]
    assert refused.code == "QS703" and "conv" not in refused.message


def listed(tree: Any) -> Any:
    """Tuples as lists, as files hold them."""
    if isinstance(tree, dict):
        return {key: listed(branch) for key, branch in tree.items()}
    return [listed(branch) for branch in tree] if isinstance(tree, (list, tuple)) else tree


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return bool((a - b).abs().max() < 0.05)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constants_come_back_in_every_form(kind: str, tmp_path: Path) -> None:
    prepared = _prepared(CONSTANTS[kind])
    assert not [w for w in prepared.warnings if w.code == "QS514"]
    expected = listed(prepared.model(X))
    program = lower(prepared, (X,))
    assert same(expected, produce_with(program, program.tree)(X))
    save_program(program, tmp_path / "a.program")
    again = load_program(tmp_path / "a.program")
    assert same(expected, produce_with(again, again.tree)(X))
    to_onnx(program, tmp_path / "a-converted.onnx")
    again = OnnxRunner.load(tmp_path / "a-converted.onnx")
    assert same(expected, produce_with(again, again.tree)(X))
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (X,))
    written = [torch.from_numpy(y) for y in run(tmp_path / "qat.onnx", X)]
    tree = tree_of(onnx.load(tmp_path / "qat.onnx"))
    assert same(expected, unflatten(tree, written))
    compared = compare_layers(prepared, [(X,)])
    assert [output.name for output in compared.outputs] == [p.name for p in program.outputs]


def test_the_fake_quant_model_returns_what_the_float_model_does() -> None:
    prepared = _prepared(lambda net, x, y: {"y": y, "none": None, "kind": "a", "size": x.shape[2:]})
    found = prepared.model(X)
    assert (found["none"], found["kind"], tuple(found["size"])) == (None, "a", (8, 8))


SEVERAL = {
    "chunk": lambda x: x.chunk(2, 1),
    "split": lambda x: torch.split(x, [1, 3], 1),
    "unbind": lambda x: x.unbind(1),
    "in a dict": lambda x: {"parts": x.chunk(2, 1), "all": x},
    "in a list": lambda x: [x, x.split(1, 1)],
    "max": lambda x: x.max(1),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_tensors_of_one_op_are_returned_as_they_are(name, tmp_path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Op(SEVERAL[name])).eval()
    x = torch.randn(2, 3, 4, 4)
    prepared = prepare(net, (x,), qconfig="horizon_qat", quantize_output=True)
    expected = pytree.tree_flatten(net(x))
    assert pytree.tree_structure(prepared.model(x)) == expected[1]
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    fake = [y.detach().numpy() for y in pytree.tree_leaves(prepared.model(x))]
    program = lower(prepared, (x,))
    real = program.dequantize(program.run(*program.quantize(x.numpy())))
    order = outputs_of(program.tree)
    export_qat_onnx(prepared, tmp_path / "q.onnx", (x,))
    written = run(tmp_path / "q.onnx", x)
    for i, y in zip(order, fake, strict=True):
        step = 2e-2 if y.dtype == np.float32 else 0
        assert abs(real[i] - y).max() <= step
        assert abs(written[i] - y).max() <= step


Named = namedtuple("Named", "logits extra")


@dataclass
class Record:
    logits: Tensor
    extra: Any = None


@dataclass
class ModelOutput(OrderedDict):
    """As transformers builds it: what is set is an item too."""

    logits: Tensor | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        self.update({f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})


class Items(dict):
    __getattr__ = dict.__getitem__


#: a class whose parts are attributes -> one of its objects, with and without a second part
RECORDS: dict[str, Callable[[Any, Any], Any]] = {
    "named tuple": Named,
    "dataclass": Record,
    "model output": ModelOutput,
    "dict with attributes": lambda a, b: Items(logits=a, extra=b),
    "record in a record": lambda a, b: Record(Named(a, None), {"in a dict": Record(b)}),
}


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_read_by_attribute_stays_so(kind: str, extra: bool) -> None:
    prepared = _prepared(lambda net, x, y: RECORDS[kind](y, y.relu() if extra else None))
    fake = prepared.model(X)
    assert type(fake) is type(RECORDS[kind](None, None))
    program = lower(prepared, (X,))
    integers = produce_with(program, program.tree)(X)
    for one, two in ((fake.logits, integers.logits), (fake.extra, integers.extra)):
        assert _same_records(one, two)


def _same_records(fake: Any, integers: Any) -> bool:
    if isinstance(fake, Record | Named):
        parts = ("logits", "extra")
        return all(_same_records(getattr(fake, p), getattr(integers, p)) for p in parts)
    if isinstance(fake, dict):
        return all(_same_records(fake[key], integers[key]) for key in fake)
    return fake is integers if fake is None else torch.allclose(fake, integers, atol=0.1)


@pytest.mark.parametrize("make", [dict, OrderedDict])
def test_dicts_of_python_stay_plain(make: Any) -> None:
    program = lower(_prepared(lambda net, x, y: [make(a=y, b={"c": None})]), (X,))
    assert program.tree == [{"a": 0, "b": {"c": {"$constant": None}}}]


def test_a_result_of_torch_that_has_names_keeps_them() -> None:
    prepared = _prepared(lambda net, x, y: y.max(1))
    program = lower(prepared, (X,))
    integers = produce_with(program, program.tree)(X)
    assert torch.equal(integers.indices, prepared.model(X).indices)


def _grid(net: Any, x: Tensor, y: Tensor) -> Any:
    """Anchors beside the results, as detectors return them."""
    rows = torch.arange(x.shape[2], dtype=x.dtype) + 0.5
    return y, torch.stack(torch.meshgrid(rows, rows, indexing="ij"), -1).view(1, -1, 2)


#: Tensors that no image changes.
TABLES: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "of a size": _grid,
    "a parameter": lambda net, x, y: (y, net.scale),
    "a buffer": lambda net, x, y: (y, net.anchors),
    "a part of a buffer": lambda net, x, y: {"maps": y, "anchors": net.anchors[:, 1:4] * 8},
    "a buffer that the network reads, too": lambda net, x, y: (
        y * net.anchors[0, 1].sum(), net.anchors, net.anchors,
    ),
    "made in forward": lambda net, x, y: (y, torch.arange(4)),
    "from numpy": lambda net, x, y: (torch.from_numpy(np.eye(3)).to(x.dtype), y),
    "of each image": lambda net, x, y: (y, torch.arange(4).expand(x.shape[0], 4)),
    "real numbers of each image": lambda net, x, y: (y, net.scale.expand(x.size(0), -1) * 0.3),
    "repeated": lambda net, x, y: (y, net.anchors.repeat(y.shape[0], 1, 1)),
    "zeros": lambda net, x, y: [y, x.new_zeros(x.shape[0], 3), torch.ones(x.shape[0], 1)],
    "a mask": lambda net, x, y: (y, torch.ones(x.shape[0], 5, dtype=torch.bool)),
}  # fmt: skip


def test_quantized_constants_load_where_exact_kernels_are_asked_for(tmp_path, monkeypatch):
    """As on a CPU without VNNI: onnxruntime rewrites them, and none may be read twice."""
    monkeypatch.setattr(runner, "saturates", lambda: True)
    prepared = _prepared(TABLES["of a size"])
    export_host(prepared, host_parts(deploy(prepared, (X,))), tmp_path, "net")
    HostRunner.load(tmp_path, "net")


@pytest.mark.parametrize("kind", TABLES)
def test_tensors_that_no_image_changes_are_made_on_the_host(kind: str, tmp_path: Path) -> None:
    prepared = _prepared(TABLES[kind])
    assert not [w for w in prepared.warnings if w.code in ("QS514", "QS608")]
    deployment = deploy(prepared, (X,))
    program = lower(prepared, (X,))
    export_host(prepared, host_parts(deployment), tmp_path, "net")
    host = HostRunner.load(tmp_path, "net")
    for images in (X, torch.cat([X, X[:1]])):
        fake, integers = prepared.model(images), produce_with(program, program.tree, host)(images)
        fake, integers = listed(fake), listed(integers)
        assert list(fake) == list(integers) if isinstance(fake, dict) else True
        for a, b in zip(pytree.tree_leaves(fake), pytree.tree_leaves(integers), strict=True):
            assert a.dtype == b.dtype
            if a.shape[1:] == (4, 6, 6):
                assert torch.allclose(a, b, atol=0.1 * float(a.detach().abs().max()))
            else:
                assert torch.equal(a, b)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (X,))

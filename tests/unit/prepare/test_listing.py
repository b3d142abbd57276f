"""Graphs as text: of a unit between two passes, and of a prepared model."""

from __future__ import annotations

import copy
import pickle

from torch import Tensor, nn

from qatspec.api import dump
from qatspec.prepare import prepare
from qatspec.prepare.listing import list_prepared, list_unit, text
from tests.unit.prepare.conftest import INT8, image
from tests.unit.prepare.test_passes import Net, unit


def _row(listed: str, node: str) -> list[str]:
    (line,) = (line for line in listed.splitlines() if line.split()[:1] == [node])
    return line.split()


def test_the_rows_of_a_unit_say_what_the_passes_found_so_far() -> None:
    assert text(list_unit(unit(last="observe-custom"))) == "graph of the model: not traced yet\n"
    traced = text(list_unit(unit(last="trace")))
    assert _row(traced, "conv2d")[1:4] == ["conv2d", "input=iadd,", "weight=weight"]
    assert _row(traced, "conv")[:6] == ["conv", "conv2d", "x", "float32", "(2,", "4,"]
    fused = text(list_unit(unit(last="fuse")))
    assert "fused: conv2d + batch_norm2d" in fused and "observed" not in fused
    annotated = text(list_unit(unit(last="annotate")))
    assert "observed, quantized weight; fused: conv2d + batch_norm2d" in annotated
    assert "float: no quant handler knows `full`" in annotated
    assert "tests/unit/prepare/test_passes.py:" in annotated


def test_a_prepared_model_lists_as_its_unit_does_after_the_last_pass() -> None:
    prepared = prepare(Net(), (image(),), qconfig=INT8)
    assert dump(prepared) == text(list_unit(unit(last=None)))
    conv = _row(dump(prepared), "conv")
    assert "norm" in conv and dump(prepared).count("batch norm folded") == 1


def test_a_copied_and_a_loaded_model_list_alike_but_for_examples() -> None:
    prepared = prepare(Net(), (image(),), qconfig=INT8)
    (before,) = list_prepared(prepared)
    for made in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
        (after,) = list_prepared(made)
        assert [(r.node, r.op, r.operands, r.notes) for r in after.rows] == [
            (r.node, r.op, r.operands, r.notes) for r in before.rows
        ]


def test_each_prepared_module_has_a_listing_of_its_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    options = {"standalone_module_name": ["1"]}
    prepared = prepare(
        nn.Sequential(Two(), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))),
        (image(),),
        qconfig=INT8,
        modules={"0.head": {}, "1": {"prepare": options}},
    )
    listed = {listing.path: listing for listing in list_prepared(prepared)}
    assert list(listed) == ["0.head", "1", "1.1"]
    assert "standalone" in text(listed["1"]) and "weight qint8" in text(listed["1.1"])
    assert dump(prepared).count("graph of `") == 3

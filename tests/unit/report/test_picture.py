"""The picture of a prepared model: every group a box, every tensor in its colour."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import torch
import torch.nn.functional as F
from torch import nn

from qatspec.prepare import prepare
from qatspec.report.flow import Flow, flow
from qatspec.report.picture import COLOURS, draw_graph

SVG = "{http://www.w3.org/2000/svg}"


class Net(nn.Module):
    """A fold with a residual, a shared scale, a part in float, an int32 tail."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.gate, self.tail = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1)

    def forward(self, x):
        y = F.relu(self.stem(x) + x)
        return self.tail(F.max_pool2d(y, 2) + F.max_pool2d(self.gate(y).cumprod(1), 2))


def _flow(**rules) -> Flow:
    torch.manual_seed(0)
    qconfig = {"": "horizon_qat", **rules}
    return flow(prepare(Net(), (torch.zeros(1, 3, 8, 8),), qconfig=qconfig, quantize_output=False))


def test_boxes_are_groups_and_edges_their_tensors() -> None:
    found = _flow(module_name={"gate": None})
    boxes = [(box.ops, box.module, box.shape, box.dtype) for box in found.boxes]
    assert boxes == [
        (["input"], "", (3, 8, 8), "qint8"),
        (["conv2d", "batch_norm", "add", "relu"], "stem.0", (3, 8, 8), "qint8"),
        (["max_pool2d"], "", (3, 4, 4), "qint8"),
        (["conv2d"], "gate", (3, 8, 8), "float"),
        (["cumprod"], "", (3, 8, 8), "qint8"),  # computed in float, and quantized behind it
        (["max_pool2d"], "", (3, 4, 4), "qint8"),
        (["add"], "", (3, 4, 4), "qint8"),
        (["conv2d"], "tail", (5, 4, 4), "int32"),
        (["output"], "tail", (5, 4, 4), "int32"),
    ]
    assert found.edges == [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (2, 6), (5, 6), (6, 7), (7, 8)]


def test_the_svg_has_every_box_and_edge_and_names_the_rule() -> None:
    found = _flow(module_name={"gate": None})
    text = draw_graph(found, "a & b", lambda decision: f"spec.yaml:{decision.node}")
    root = ElementTree.fromstring(text)
    hovers = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert hovers[0] == "a & b"
    assert "rule: spec.yaml::stem_0" in "\n".join(hovers)
    paths = [path.get("stroke") for path in root.iter(f"{SVG}path")]
    assert len(paths) == len(found.edges)
    assert paths.count(COLOURS["float"]) == 1 and paths.count(COLOURS["int32"]) == 1
    assert text == draw_graph(found, "a & b", lambda decision: f"spec.yaml:{decision.node}")
    corners = [
        g.get("transform") for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None
    ]
    assert len(corners) == len(set(corners)) == len(found.boxes)  # no box upon another


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.ones(1, 3, 8, 8))
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = x + self.places * 2.0
        return x + self.second(self.first(x).relu())


def test_quantized_parameters_are_part_of_what_reads_them() -> None:
    found = flow(prepare(Embedded(), (torch.zeros(1, 3, 8, 8),), qconfig="horizon_qat"))
    assert [box.ops[0] for box in found.boxes] == ["input", "add", "conv2d", "conv2d", "output"]
    assert found.edges == [(0, 1), (1, 2), (2, 3), (1, 3), (3, 4)]


def test_lines_beside_the_boxes_are_in_the_picture() -> None:
    """An edge that passes layers runs beside their boxes."""
    found = flow(prepare(Embedded(), (torch.zeros(1, 3, 8, 8),), qconfig="horizon_qat"))
    root = ElementTree.fromstring(draw_graph(found, "", lambda decision: ""))
    width = float(root.get("viewBox", "").split()[2])
    for path in root.iter(f"{SVG}path"):
        moves = re.findall(r"[MC]([^MCV]+)", path.get("d", ""))
        xs = [float(x) for move in moves for x in move.split()[::2]]
        assert min(xs) > 0 and max(xs) < width

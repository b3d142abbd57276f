"""The graph of a prepared model as one SVG: every op group, and every tensor between them in the
colour of the integers that it is on."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qatspec.diag.codes import QS921
from qatspec.report.flow import FLOAT, TAIL, Box, Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qatspec.graph import Decision

WIDTH, HEIGHT, MARGIN = 230, 58, 24
_Point = tuple[float, float]
#: told apart by people with any colour vision (Okabe & Ito 2008)
COLOURS = {
    "qint4": "#CC79A7",
    "qint8": "#009E73",
    "qint16": "#0072B2",
    "quint8": "#56B4E9",
    TAIL: "#E69F00",
    FLOAT: "#D55E00",
}
_WORST = "#FFE945"
#: Least SQNR of a box in dB -> its colour where boxes are coloured by noise (cividis, Nunez 2018)
NOISE = {40: "#00204C", 30: "#4C556B", 20: "#7D7C78", 10: "#BBAF70", -1000: _WORST}
MEANS = {
    TAIL: "int32 tail: left at the accumulator's precision",
    FLOAT: "float: not quantized",
}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A box with its position, its lines of text, and its tooltip."""

    x: float
    y: float
    title: str
    module: str
    shape: str
    colour: str
    noise: str
    hover: str


@dataclass(frozen=True, slots=True)
class _Line:
    """An edge: an SVG path, and the dtype of the tensor."""

    path: str
    colour: str
    dtype: str


def draw_graph(
    flow: Flow,
    title: str,
    rule_line: Callable[[Decision], str],
    noise: Mapping[str, float] | None = None,
) -> str:
    """The SVG's text.

    rule_line  "file:line" of the rule behind a decision, "" for none.
    noise      node of a decision -> SQNR of its result in dB, which a page may colour boxes by.

    Raises DiagnosticError QS921 without jinja2 and grandalf.
    """
    try:
        import jinja2

        centres, bends = _layout(flow)
    except ModuleNotFoundError as error:
        raise QS921.error(
            f"the picture is drawn with {error.name}, which is not installed",
            help="pip install 'qatspec[report]'",
        ) from error
    sides = [x + side for x, _ in centres for side in (-WIDTH / 2, WIDTH / 2)]
    sides += [x for points in bends for x, _ in points]
    left, right = min(sides, default=0) - MARGIN, max(sides, default=0) + MARGIN
    centres = [(x - left, y + MARGIN) for x, y in centres]
    bends = [[(x - left, y + MARGIN) for x, y in points] for points in bends]
    boxes = [
        _placed(box, x, y, rule_line, noise or {})
        for box, (x, y) in zip(flow.boxes, centres, strict=True)
    ]
    used = {box.dtype for box in flow.boxes}
    source = (importlib.resources.files("qatspec.report") / "graph.svg.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text: str = environment.from_string(source).render(
        title=title,
        boxes=boxes,
        lines=[_line(flow, centres, *ends) for ends in zip(flow.edges, bends, strict=True)],
        legend=[(c, MEANS.get(d, d)) for d, c in COLOURS.items() if d in used],
        width=round(right - left),
        height=round(max((y for _, y in centres), default=0) + HEIGHT + MARGIN),
        box_width=WIDTH,
        box_height=HEIGHT,
    )
    return text


class _Routed:
    """What grandalf asks of an edge's view: the points that the edge passes."""

    points: Sequence[_Point] = ()

    def setpath(self, points: Sequence[_Point]) -> None:
        self.points = points


def _layout(flow: Flow) -> tuple[list[_Point], list[list[_Point]]]:
    """(centre of the top side of each box, the points between boxes that each edge passes), in
    layers from top to bottom (Sugiyama et al. 1981, by grandalf)."""
    from grandalf.graphs import Edge, Graph, Vertex
    from grandalf.layouts import SugiyamaLayout, VertexViewer
    from grandalf.routing import route_with_lines

    vertices = [Vertex(i) for i in range(len(flow.boxes))]
    for vertex in vertices:
        vertex.view = VertexViewer(WIDTH, HEIGHT)
    edges = [Edge(vertices[a], vertices[b]) for a, b in flow.edges]
    for edge in edges:
        edge.view = _Routed()
    shifts: dict[int, float] = {}
    right = 0.0
    for part in Graph(vertices, edges).C:  # what hangs together; parts stand side by side
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace, layout.route_edge = 18, 30, route_with_lines
        layout.init_all()
        layout.draw()
        views = [vertex.view for vertex in part.sV]
        shift = right - min(view.xy[0] for view in views)
        shifts.update((vertex.data, shift) for vertex in part.sV)
        right = max(view.xy[0] for view in views) + shift + WIDTH + 3 * MARGIN
    centres = [(v.view.xy[0] + shifts[v.data], v.view.xy[1]) for v in vertices]
    bends = [[(x + shifts[edge.v[0].data], y) for x, y in edge.view.points[1:-1]] for edge in edges]
    return centres, bends


def _placed(
    box: Box, x: float, y: float, rule_line: Callable[[Decision], str], noise: Mapping[str, float]
) -> _Placed:
    hover = [" + ".join(box.ops), box.module]
    if box.decision is not None:
        weight = box.decision.weight
        hover += [
            f"result: {box.dtype}" + (f", weight: {weight.dtype}" if weight else ""),
            box.decision.reason,
            f"rule: {rule_line(box.decision)}",
            f"code: {box.decision.source}",
        ]
    db = noise.get(box.decision.node) if box.decision is not None else None
    if db is not None:
        hover.append(f"SQNR of fake-quantization: {db:.1f} dB")
    return _Placed(
        x=round(x - WIDTH / 2, 1),
        y=round(y, 1),
        title=_short(" + ".join(box.ops), 34),
        module=_short(box.module, 34),
        shape=" x ".join(map(str, box.shape)),
        colour=COLOURS[box.dtype],
        noise="" if db is None else next((c for n, c in NOISE.items() if db >= n), _WORST),
        hover="\n".join(hover),
    )


def _line(flow: Flow, centres: list[_Point], ends: tuple[int, int], bends: list[_Point]) -> _Line:
    """A curve from box to box; where it passes other layers, it goes straight down between them."""
    (x, y), last = centres[ends[0]], centres[ends[1]]
    y += HEIGHT
    path = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in [*bends, last]:
        middle = (y + to_y) / 2
        path += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
        if (to_x, to_y) != last:
            y += HEIGHT
            path += f" V{y:.1f}"
    dtype = flow.boxes[ends[0]].dtype
    return _Line(path, COLOURS[dtype], dtype)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"…{text[1 - longest :]}"

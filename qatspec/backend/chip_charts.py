"""Charts of a compiled file's run as Vega-Lite specifications."""

from __future__ import annotations

from qatspec.backend.chip import Chip
from qatspec.page import Chart, Rows


def timeline(chip: Chip) -> Chart:
    """What each core and each queue does over the time of a frame."""
    lanes = list(dict.fromkeys(row["lane"] for row in chip.timeline))
    return {
        "title": f"a frame on {chip.march}: {chip.latency:,.1f} us, modelled",
        "height": 34 * max(len(lanes), 1),
        "data": {"values": chip.timeline},
        "mark": {"type": "bar", "height": 20, "clip": True},
        "encoding": {
            "x": {"field": "start", "type": "quantitative", "title": "us"},
            "x2": {"field": "end"},
            "y": {"field": "lane", "type": "nominal", "sort": lanes, "title": None},
            "color": {"field": "what", "type": "nominal", "title": None},
            "tooltip": [{"field": name} for name in ("lane", "what", "start", "end")],
        },
        "params": [
            {
                "name": "zoom",
                "select": {
                    "type": "interval",
                    "encodings": ["x"],
                    "zoom": "wheel![event.shiftKey]",
                },
                "bind": "scales",
            }
        ],
    }


def roofline(chip: Chip) -> Chart:
    """Each layer's operations a second over its operations a byte, below the two roofs. A layer
    takes as long as its computing or its traffic, whichever is longer."""
    points: Rows = []
    for layer in (layer for layer in chip.layers if layer.ops and layer.moved and layer.us):
        us = max(layer.us, layer.moved / chip.bytes_per_us)
        point = {"layer": layer.name, "node": layer.node, "us": round(us, 3)}
        intensity, rate = layer.ops / layer.moved, layer.ops / us / 1e3
        points.append({**point, "intensity": round(intensity, 4), "rate": round(rate, 4)})
    if not points:
        return {"title": "roofline", "data": {"values": []}}
    ridge = chip.ops_per_us / chip.bytes_per_us
    marks = [ridge, *(float(p["intensity"]) for p in points)]
    ends = [min(marks) / 2, ridge, max(marks) * 2]
    roof = [
        {"intensity": x, "rate": min(chip.ops_per_us, x * chip.bytes_per_us) / 1e3} for x in ends
    ]
    x = {"field": "intensity", "type": "quantitative", "scale": {"type": "log"}}
    y = {"field": "rate", "type": "quantitative", "scale": {"type": "log"}}
    tooltip = [{"field": name} for name in ("layer", "node", "intensity", "rate", "us")]
    return {
        "title": "roofline: compute and DDR of the model of time",
        "height": 300,
        "layer": [
            {
                "data": {"values": roof},
                "mark": {"type": "line", "color": "#D55E00"},
                "encoding": {
                    "x": {**x, "title": "operations / byte through DDR"},
                    "y": {**y, "title": "G operations / s"},
                },
            },
            {
                "data": {"values": points},
                "mark": {"type": "circle", "opacity": 0.8},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": {"field": "us", "type": "quantitative", "title": "us"},
                    "tooltip": tooltip,
                },
            },
        ],
    }


def memory(chip: Chip) -> Chart:
    """Bytes through DDR by layer, in the order in which they run."""
    rows = [
        {"layer": layer.name, "KiB": round(layer.moved / 1024, 2), "order": index}
        for index, layer in enumerate(chip.layers)
        if layer.moved
    ]
    return {
        "title": f"through DDR by layer, in order; on chip: {chip.onchip:,} of "
        f"{chip.onchip_size:,} bytes",
        "height": 180,
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {
            "x": {
                "field": "order",
                "type": "ordinal",
                "title": "layer",
                "axis": {"labels": False, "ticks": False},
            },
            "y": {"field": "KiB", "type": "quantitative"},
            "tooltip": [{"field": "layer"}, {"field": "KiB"}],
        },
    }


def of_chip(chip: Chip) -> list[Chart]:
    """The charts of a run of a compiled file."""
    return [timeline(chip), on_chip(chip), memory(chip), roofline(chip)]


def on_chip(chip: Chip) -> Chart:
    """What lies in the memory on chip over the time of a frame."""
    rows = [
        {"us": round(us, 2), "KiB": round(size / 1024, 2), "what": what}
        for us, values, constants in chip.held
        for what, size in (("values", values), ("constants", constants))
    ]
    return {
        "title": f"memory on chip over time; it has {chip.onchip_size / 1024:,.0f} KiB",
        "height": 180,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "area", "interpolate": "step-after"},
                "encoding": {
                    "x": {"field": "us", "type": "quantitative", "title": "us"},
                    "y": {"field": "KiB", "type": "quantitative", "stack": "zero"},
                    "color": {"field": "what", "type": "nominal", "title": None},
                    "tooltip": [{"field": n} for n in ("us", "what", "KiB")],
                },
            },
            {
                "data": {"values": [{"KiB": chip.onchip_size / 1024}]},
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": "#D55E00"},
                "encoding": {"y": {"field": "KiB", "type": "quantitative"}},
            },
        ],
    }

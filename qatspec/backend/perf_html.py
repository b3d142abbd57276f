"""The performance report as one self-contained page: no network, no scripts, inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from qatspec.backend.compiled import Compiled
from qatspec.backend.schedule import Event

_WIDTH, _LANE, _LEFT = 1120, 30, 72
_COLORS = {"execute": "#2f6f9f", "weight": "#c98a2b", "load": "#5b9f5b", "store": "#a4506a",
           "host": "#7a5fa8"}  # fmt: skip
#: code of a command -> words
MEANING = {
    "execute": "compute",
    "weight": "load weights",
    "load": "load features",
    "store": "store features",
    "host": "CPU",
}
#: Events closer than this many pixels are drawn as one: a page stays small for any net.
_MERGE = 0.6

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.note { color: GrayText; margin: .2rem 0 1.2rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.card span { color: GrayText; font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
thead th { position: sticky; top: 0; background: Canvas } tbody tr:hover { background: var(--soft) }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: CanvasText }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em }
"""


def render(summary: dict[str, Any], compiled: Compiled, events: Sequence[Event]) -> str:
    """The HTML page. summary: result of `perf`; events: the schedule behind it."""
    name = escape(compiled.program.name)
    march = escape(compiled.target.march)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} on {march}: modelled performance</title><style>{_STYLE}</style></head><body>
<h1>{name} on {march}</h1>
<p class="note">Figures are {escape(summary["note"])}.</p>
{_cards(summary)}
<h2>Timeline</h2>
{_timeline(events, compiled.cores, summary["latency (us)"])}
{_legend()}
<h2>Layer details</h2>
{_table(summary["layer details"][0], summary["layer details"][1:])}
{_host_parts(summary["CPU parts"])}
<h2>All figures</h2>
{_figures(summary)}
</body></html>
"""


def _cards(summary: dict[str, Any]) -> str:
    cores = summary["BPU core number"]
    error = escape(str(summary["latency error"]))
    used, size = summary["on-chip bytes used"], summary["on-chip bytes"]
    cards = [
        (f"{summary['latency (ms)']:.3f} ms", f"latency, {cores} core{'s' * (cores > 1)}; {error}"),
        (f"{summary['FPS']:,.1f}", "frames a second"),
        (f"{summary['BPU OPs per frame (effective)'] / 1e6:,.1f} M", "OPs a frame (2 x MACs)"),
        (f"{summary['DDR megabytes per frame']:.3f} MB", "through DDR a frame"),
        (f"{used / 1024:,.0f} KB", f"on chip, of {size / 1024:,.0f} KB"),
    ]
    boxes = "".join(f'<div class="card"><b>{b}</b><span>{s}</span></div>' for b, s in cards)
    return f'<div class="cards">{boxes}</div>'


def _timeline(events: Sequence[Event], cores: int, latency: float) -> str:
    """A lane for each core and one for each DMA queue over the time of a run."""
    lanes = lane_names(events, cores)
    scale = (_WIDTH - _LEFT) / latency if latency else 0.0
    height = len(lanes) * _LANE + 34
    parts = [
        f'<text x="0" y="{lane * _LANE + 20}">{label}</text>'
        f'<rect x="{_LEFT}" y="{lane * _LANE + 4}" width="{_WIDTH - _LEFT}" '
        f'height="{_LANE - 8}" fill="#8882"/>'
        for lane, label in enumerate(lanes)
    ]
    for lane in range(len(lanes)):
        mine = [e for e in events if lane_of(e, cores) == lane]
        parts += [
            f'<rect x="{_LEFT + start * scale:.1f}" y="{lane * _LANE + 4}" '
            f'width="{max((end - start) * scale, 0.3):.1f}" height="{_LANE - 8}" '
            f'fill="{_COLORS[code]}"/>'
            for code, start, end in stretches(mine, _MERGE / scale if scale else 0.0)
        ]
    base = len(lanes) * _LANE
    for tick in range(6):
        x = _LEFT + tick / 5 * (_WIDTH - _LEFT)
        anchor = "end" if tick == 5 else "middle" if tick else "start"
        parts.append(
            f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base + 6}" stroke="#888"/>'
            f'<text x="{x:.1f}" y="{base + 22}" text-anchor="{anchor}">'
            f"{tick / 5 * latency:,.0f} us</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="what the cores and the DMA '
        f'queues do over the time of one run">{"".join(parts)}</svg>'
    )


def lane_names(events: Sequence[Event], cores: int) -> list[str]:
    """Names of the units, in the order of `lane_of`; the CPU is one where it runs something."""
    lanes = [*(f"core {core}" for core in range(cores)), "loads", "stores"]
    return lanes + ["CPU"] * any(event.command.code == "host" for event in events)


def lane_of(event: Event, cores: int) -> int:
    """The unit that runs a command: a core by its number, then the queue of loads, that of
    stores, the CPU."""
    if event.command.code == "execute":
        return event.command.core
    return cores + ("load", "store", "host").index(event.command.code.replace("weight", "load"))


def stretches(events: Sequence[Event], gap: float) -> list[tuple[str, float, float]]:
    """(code, start, end) of stretches of one kind, small gaps closed."""
    merged: list[tuple[str, float, float]] = []
    for event in events:
        code = event.command.code
        if merged and merged[-1][0] == code and event.start - merged[-1][2] <= gap:
            merged[-1] = (code, merged[-1][1], event.end)
        elif event.end > event.start:
            merged.append((code, event.start, event.end))
    return merged


def _legend() -> str:
    keys = "".join(f'<i style="background:{_COLORS[c]}"></i>{m}' for c, m in MEANING.items())
    return f'<p class="key">{keys}</p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _host_parts(rows: Sequence[Sequence[str]]) -> str:
    """What the CPU runs, where it runs something."""
    return f"<h2>On the CPU</h2>\n{_table(rows[0], rows[1:])}" if len(rows) > 1 else ""


def _figures(summary: dict[str, Any]) -> str:
    """Every scalar of perf.json under its own name, then the ports."""
    rows = [[key, _shown(v)] for key, v in summary.items() if not isinstance(v, list)]
    header, *ports = summary["input features"]
    return _table(["figure", "value"], rows) + "<h2>Inputs</h2>" + _table(header, ports)


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)

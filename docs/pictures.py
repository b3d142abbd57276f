"""Make the pictures of README from real commands: `python docs/pictures.py`.

Each picture of the terminal is the output of a command in a terminal of 100 columns; the graph and
the timeline are the files that commands write. They are made anew from `docs/pictures/shapes.yaml`
in less than a minute and committed; tests/contract/test_pictures.py holds that they are fresh.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent / "pictures"
SPEC = "shapes.yaml"
COLUMNS, ROWS = 100, 50
PAPER, INK = (250, 250, 250), (36, 41, 47)
THEME = TerminalTheme(
    PAPER,
    INK,
    [INK, (180, 30, 40), (30, 120, 60), (150, 100, 0), (20, 90, 170), (130, 60, 150),
     (0, 115, 125), (110, 118, 125)],
    [(110, 118, 125), (200, 40, 50), (40, 140, 70), (170, 115, 0), (30, 100, 190), (150, 75, 170),
     (0, 130, 140), INK],
)  # fmt: skip
#: Of the page that `compile` writes: its charts, and the colours of what the timeline shows.
CHARTS = re.compile(r'<script type="application/json" id="charts">(.*?)</script>', re.DOTALL)
COLOURS = {"compute": "#2f6f9f", "load weights": "#c98a2b", "load features": "#5b9f5b",
           "store features": "#a4506a", "CPU": "#7a5fa8"}  # fmt: skip
#: The digest of a step covers qatspec's own sources: it changes with every version.
DIGEST = re.compile(r"\b(?=\w*\d)[0-9a-f]{12,64}\b")


def in_terminal(words: Sequence[str], folder: Path) -> str:
    """Run `qatspec WORDS` in a terminal, in `folder`; what it prints, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [sys.executable, "-m", "qatspec", *words],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"},
    ):  # fmt: skip
        os.close(theirs)
        read = b""
        try:
            while part := os.read(ours, 65536):
                read += part
        except OSError:  # Linux's answer once the last process has closed the terminal
            pass
    os.close(ours)
    return read.decode("utf-8").replace("\r\n", "\n")


def terminal_svg(command: str, printed: str) -> str:
    """A picture of a terminal in which `command` printed this."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold"), command), soft_wrap=True)
    console.print(Text.from_ansi(printed.rstrip("\n")))
    console.print()  # the picture ends close below the baseline: it would cut an underscore off
    drawn = console.export_svg(title="qatspec", theme=THEME, unique_id="qatspec")
    # no font from the network: the reader's own
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def timeline_svg(page: str) -> str:
    """The first chart of a page of modelled performance, as a file that needs no script."""
    charts = CHARTS.search(page)
    assert charts, "the page has no charts"
    rows = json.loads(charts[1])["chart-0"]["data"]["values"]
    lanes = list(dict.fromkeys(row["lane"] for row in rows))
    end, base = max(row["end"] for row in rows), 30 * len(lanes)
    parts = [
        f'<text x="0" y="{30 * i + 20}">{lane}</text>'
        f'<rect x="72" y="{30 * i + 4}" width="1048" height="22" fill="#8882"/>'
        for i, lane in enumerate(lanes)
    ]
    for row in rows:
        x, width = 72 + 1048 * row["start"] / end, 1048 * (row["end"] - row["start"]) / end
        parts.append(
            f'<rect x="{x:.1f}" y="{30 * lanes.index(row["lane"]) + 4}" '
            f'width="{max(width, 0.3):.1f}" height="22" fill="{COLOURS[row["what"]]}"/>'
        )
    for tick in range(6):
        x, anchor = 72 + tick / 5 * 1048, "end" if tick == 5 else "middle" if tick else "start"
        parts.append(
            f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base + 6}" stroke="#888"/>'
            f'<text x="{x:.1f}" y="{base + 22}" text-anchor="{anchor}">'
            f"{tick / 5 * end:,.0f} us</text>"
        )
    for i, (name, colour) in enumerate(COLOURS.items()):
        parts.append(
            f'<rect x="{72 + 150 * i}" y="{base + 36}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{90 + 150 * i}" y="{base + 47}">{name}</text>'
        )
    size = f'width="1144" height="{base + 74}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -12 1144 {base + 74}" {size}>'
        "<style>text { font: 12px system-ui, sans-serif; fill: #24292f }</style>"
        f'<rect x="-12" y="-12" {size} fill="#fafafa"/>{"".join(parts)}</svg>\n'
    )


def cropped(drawing: str, height: int) -> str:
    """The upper part of an SVG."""
    width = re.search(r'<svg [^>]*width="(\d+)"', drawing)
    assert width, "the drawing states no width"
    size = f'width="{width[1]}" height="{height}" viewBox="0 0 {width[1]} {height}"'
    return re.sub(r'width="\d+" height="\d+" viewBox="[^"]*"', size, drawing, count=1)


def until(printed: str, heading: str) -> str:
    """The part of an output before a heading."""
    before, found, _ = printed.partition(heading)
    assert found, f"the output has no {heading!r}"
    return before


def pictures(folder: Path) -> dict[str, str]:
    """File name -> SVG of every picture, made in an empty folder."""
    spec = (HERE / SPEC).read_text("utf-8")
    (folder / SPEC).write_text(spec, "utf-8")
    (folder / "typo.yaml").write_text(spec.replace("quantize_output", "quantise_output"), "utf-8")

    def shown(*words: str) -> tuple[str, str]:
        return " ".join(("qatspec", *words)), in_terminal(words, folder)

    error = shown("validate", "typo.yaml")
    run = shown("run", SPEC)
    assert "bayes: " in run[1], run[1]
    command, plan = shown("plan", SPEC, "--set", "stages.qat.trainer.epochs=2")
    compare, noise = shown("compare", SPEC)
    shown("check", SPEC, "--picture", "graph.svg")
    page = folder / "runs/shapes/compile/shapes.perf.html"
    return {
        "error.svg": terminal_svg(*error),
        "plan.svg": terminal_svg(command, DIGEST.sub("·" * 12, plan)),
        "graph.svg": cropped((folder / "graph.svg").read_text("utf-8"), 1018),
        "noise.svg": terminal_svg(compare, until(noise, "Distance in LSB")),
        "timeline.svg": timeline_svg(page.read_text("utf-8")),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for name, drawing in pictures(Path(scratch)).items():
            (HERE / name).write_text(drawing, "utf-8")
            sys.stdout.write(f"{name}: {len(drawing.encode()) / 1024:.1f} KiB\n")

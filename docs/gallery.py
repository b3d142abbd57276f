"""Make the tables and pictures of docs/gallery.md from finished work directories.

    python docs/gallery.py quickstart=runs/quickstart          # figures, then the page's tables
    python docs/gallery.py quickstart=runs/quickstart --pictures top curves [--stale]
    python docs/gallery.py                                     # the tables alone

`docs/gallery/NAME.json` keeps the figures of a run, as its summary.json has them, without places
of the machine. The page's tables stand between `<!-- NAME -->` and `<!-- end -->`, and a test holds
that they are those of the figures. Pictures are parts of the run's report in Chromium, which needs
`pip install playwright 'qatspec[report]'`.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FIGURES, PAGE = DOCS / "gallery", DOCS / "gallery.md"
RESULTS = ("float", "calibration", "qat", "integer", "bin")
#: Metrics of a table at most, in the data set's order.
METRICS = 3
#: Part of the picture's name -> what of the report it shows, and its width in the browser.
PICTURES = {
    "top": (("header", "h2:has-text('Metrics') + .scroll"), 900),
    "predictions": ((".pairs",), 1100),
    "curves": (("#run-1-curves ~ .charts",), 1100),
    "modules": ((".tall",), 1300),
    "classes": (("#run-1-classes ~ .charts",), 900),
}
#: Pixels of a picture's height at most: the upper part of what is longer.
HEIGHT = 640
_PART = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def figures(workdir: Path) -> dict[str, Any]:
    """What the page says of a run."""
    summary = json.loads((workdir / "summary.json").read_text("utf-8"))
    artifacts = [
        {key: artifact[key] for key in ("path", "size", "bit_exact", "compared")}
        for artifact in summary["artifacts"]
        if artifact["bit_exact"] is not None
    ]
    environment = summary["environment"]
    return {
        "spec": summary["spec"]["name"],
        "settings": [text for text in summary["spec"]["overrides"] if not _names_a_file(text)],
        "threads": environment["threads"],
        "packages": {name: environment["packages"][name] for name in ("torch", "onnxruntime")},
        "metrics": summary["metrics"],
        "delta_to_float": summary["delta_to_float"],
        "artifacts": artifacts,
        "performance": summary["performance"],
    }


def _names_a_file(setting: str) -> bool:
    return Path(setting.partition("=")[2]).is_absolute()


def table(run: Mapping[str, Any]) -> str:
    """The metrics of each stage, what the files were compared with, and the modelled time."""
    results = [name for name in RESULTS if name in run["metrics"]]
    metrics = list(run["metrics"][results[0]])[:METRICS]
    lines = [["result", *metrics], ["---"] * (len(metrics) + 1)]
    for name in results:
        deltas = run["delta_to_float"].get(name, {})
        lines.append([name, *(_figure(run["metrics"][name][m], deltas.get(m)) for m in metrics)])
    files = [
        f"{a['path'].rpartition('/')[2]} of {a['size'] / 1024:,.0f} KiB "
        f"{'is bit-exact' if a['bit_exact'] else 'differs'} ({a['compared']})"
        for a in run["artifacts"]
        if "itself" not in a["compared"]
    ]
    times = [
        f"{p['latency_ms']:.3f} ms a frame on {p['march']} ({p['source']})"
        for p in run["performance"]
    ]
    said = "; ".join([*files, *times])
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", f"{said}."])


def _figure(value: float, delta: float | None) -> str:
    return f"{value:.2f}" if delta is None else f"{value:.2f} ({delta:+.2f})"


def filled(page: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with the table of each run in its place."""

    def part(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{table(runs[match[1]])}\n<!-- end -->"

    return _PART.sub(part, page)


def kept() -> dict[str, dict[str, Any]]:
    """The figures of every run."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in FIGURES.glob("*.json")}


def pictures(name: str, page: Path, parts: Sequence[str]) -> dict[str, bytes]:
    """File name -> picture as WebP, of those parts (keys of PICTURES) that the page has."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    made: dict[str, bytes] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for part in parts:
            selectors, width = PICTURES[part]
            shown = browser.new_page(viewport={"width": width, "height": 900})
            shown.set_default_timeout(600_000)
            shown.goto(page.absolute().as_uri())
            shown.wait_for_selector("body[data-drawn]")
            elements = [shown.query_selector(selector) for selector in selectors]
            taken = [
                Image.open(io.BytesIO(element.screenshot())).convert("RGB")
                for element in elements
                if element is not None
            ]
            if len(taken) == len(selectors):
                made[f"{name}-{part}.webp"] = _webp(taken)
            shown.close()
        browser.close()
    return made


def _webp(parts: list[Any]) -> bytes:
    """Pictures below each other, cut off at HEIGHT."""
    from PIL import Image

    height = min(HEIGHT, sum(part.height for part in parts))
    sheet = Image.new("RGB", (max(part.width for part in parts), height), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="NAME=WORKDIR")
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, help="parts of its report")
    parser.add_argument("--stale", action="store_true", help="also of results of other software")
    parser.add_argument("--allow-code", action="store_true", help="for specs with Python files")
    given = parser.parse_args()
    FIGURES.mkdir(exist_ok=True)
    options = [
        f"--{name.replace('_', '-')}" for name in ("stale", "allow_code") if vars(given)[name]
    ]
    for run in given.runs:
        name, _, folder = run.partition("=")
        text = json.dumps(figures(Path(folder)), indent=1)
        (FIGURES / f"{name}.json").write_text(f"{text}\n", "utf-8")
        if not given.pictures:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch) / "report.html"
            command = [sys.executable, "-m", "qatspec", "report", folder, "--output", str(page)]
            subprocess.run([*command, *options], check=True)
            for file, content in pictures(name, page, given.pictures).items():
                (FIGURES / file).write_bytes(content)
                sys.stdout.write(f"{file}: {len(content) / 1024:.0f} KiB\n")
    PAGE.write_text(filled(PAGE.read_text("utf-8"), kept()), "utf-8")


if __name__ == "__main__":
    main()

"""ONNX files opened in Netron: a picture of each graph with the model's properties beside it.

    python tests/bench/netron_pages.py --netron FOLDER --output FOLDER [FILE.onnx ...]

Without files it makes its own: the quickstart's detector (random weights) as QAT ONNX and as
converted ONNX, and a small net with int16 activations and int4 weights. Exit code 1 where Netron
shows an error, draws not every node of the file, or leaves out one of the file's metadata.

Needs Netron's pages and a chromium: `python -m venv V && V/bin/pip install netron`, then
`--netron V/lib/python3.*/site-packages/netron`; `apt-get install chromium`. Netron's telemetry is
off (it holds itself for a development version), and nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qatspec.export import export_qat_onnx, to_onnx
from qatspec.lower import lower
from qatspec.registry import registry
from qatspec.spec import load
from tests.nets import settle

QUICKSTART = Path(__file__).resolve().parents[2] / "specs/quickstart.yaml"
INT16_INT4 = {"": {"activation": {"dtype": "qint16"}, "weight": {"dtype": "qint4"}}}
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1600,1300",
]  # fmt: skip
#: chromium takes the picture once the page has loaded: when the picture /wait has come.
PAGE = """<body style="margin: 0"><img src="/wait" hidden>
<iframe src="/netron" style="border: 0; width: 100vw; height: 100vh"></iframe></body>"""
#: Says yes to a large graph, opens the panel of the model's properties, and tells what is there.
SCRIPT = """const timer = setInterval(async () => {
  const state = document.body.className;
  const nodes = [...document.querySelectorAll(".graph-node")];
  if (state.includes("notification")) document.getElementById("message-button").click();
  else if (state.includes("alert") || document.querySelector(".sidebar-item")) {
    clearInterval(timer);
    const error = state.includes("alert") ? document.getElementById("message-text").innerText : "";
    const ids = nodes.map((node) => node.id);
    const keys = [...document.querySelectorAll(".sidebar-item-name")].map((item) =>
      item.querySelector("input")?.value ?? item.innerText);
    const body = JSON.stringify({error, ids, keys});
    setTimeout(() => fetch("/done", {method: "POST", body}), 1000);
  } else if (nodes.length && state.includes("default"))
    document.getElementById("sidebar-model-button").click();
}, 200);"""


class Page(http.server.SimpleHTTPRequestHandler):
    """Netron's own pages, with one file opened."""

    netron: Path
    model: Path
    found: dict[str, Any]
    done: threading.Event

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(self.netron))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self.give("text/html", PAGE.encode())
        elif path == "/netron":
            page = (self.netron / "index.html").read_text()
            page = re.sub(r'(name="version" content=)"[^"]*"', r'\1"0.0.0"', page)
            added = f'<meta name="file" content="/data/{self.model.name}"><script src="/script.js">'
            self.give("text/html", page.replace("</head>", f"{added}</script></head>").encode())
        elif path == "/script.js":
            self.give("text/javascript", SCRIPT.encode())
        elif path.startswith("/data/"):
            self.give("application/octet-stream", self.model.read_bytes())
        elif path == "/wait":
            self.done.wait(120)
            self.send_error(404)
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.give("text/plain", b"")
        self.done.set()

    def give(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Set-Cookie", "consent=1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: what matters is told by `opened`."""


def opened(model: Path, netron: Path, picture: Path) -> bool:
    """Take the picture; is everything there?"""
    found: dict[str, Any] = {}
    page = type("Opened", (Page,), {
        "netron": netron, "model": model, "found": found, "done": threading.Event(),
    })  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [f"--user-data-dir={profile}", f"--screenshot={picture}"]
        address = f"http://127.0.0.1:{server.server_port}/"
        subprocess.run([*CHROMIUM, *arguments, address], check=True, capture_output=True)
    server.shutdown()
    file = onnx.load(model)
    drawn = {name.removeprefix("node-name-") for name in found.get("ids", ())}
    missing = [n.name for n in file.graph.node if n.name not in drawn]
    missing += [p.key for p in file.metadata_props if p.key not in found.get("keys", ())]
    error = found.get("error", "no answer from the page")
    print(f"{picture}: {len(drawn)} nodes drawn; {error or f'missing: {missing or None}'}")
    return not error and not missing


def own(folder: Path) -> list[Path]:
    """The program's own files."""
    spec = load(QUICKSTART)
    images, small = torch.randn(1, 3, *spec.input.size), torch.randn(2, 3, 16, 16)
    params = dict(spec.model.params)
    part = {"prepare": "horizon", "quantize_input": False}
    modules = {"backbone": {"prepare": "horizon"}, "neck": part}
    modules["head"] = part | {"quantize_output": False}
    torch.manual_seed(0)
    detector = settle(registry().model(spec.model.type).build(params), images,
                      modules=modules, march=spec.march, quantize_output=True)  # fmt: skip
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    export_qat_onnx(detector, folder / "detector-qat.onnx", (images,))
    to_onnx(lower(detector, (images,)), folder / "detector-converted.onnx")
    export_qat_onnx(settle(net, small, qconfig=INT16_INT4), folder / "int16-int4-qat.onnx")
    return sorted(folder.glob("*.onnx"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.onnx")
    parser.add_argument("--netron", type=Path, required=True, help="the package's folder")
    parser.add_argument("--output", type=Path, required=True, help="where the pictures go")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        files = given.files or own(Path(folder))
        met = [opened(f, given.netron, given.output / f"{f.stem}.png") for f in files]
    sys.exit(not all(met))


if __name__ == "__main__":
    main()

"""qatspec beside other quantizers: the same nets, pictures, seeds and steps of training.

    python -m tests.bench.peers qatspec brevitas --venvs FOLDER --results FOLDER
    python -m tests.bench.peers --table --results FOLDER

The first command measures each named quantizer in a virtual environment of its own (made at the
first use, see environments.py): measure.py for each net, then mistakes.py, and networks.py where
timm is installed. The results folder keeps a JSON file for each, so that one command a quantizer
adds a row, and a second call measures it again. The float nets are trained once, into the same
folder. Further options go to measure.py. The second command prints the tables of docs/peers.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # its programs run in environments without this package

from environments import PACKAGES, interpreter  # noqa: E402
from task import NETS  # noqa: E402

PEERS = ("qatspec", *PACKAGES)
NAMES = {
    "qatspec": "qatspec", "fx_qnnpack": "torch.ao FX, qnnpack", "pt2e": "torchao pt2e, x86",
    "brevitas": "Brevitas 0.13.4", "aimet": "AIMET 2.42.0", "mct": "MCT 2.6.1",
    "modelopt": "ModelOpt 0.47.0", "nncf": "NNCF 3.4.0",
}  # fmt: skip
ANSWERS = ("named", "right", "error", "said", "silent")


def measure(peer: str, venvs: Path, results: Path, options: Sequence[str]) -> None:
    """Run the programs for one quantizer; what they print goes into a log beside their results."""
    python = sys.executable if peer == "qatspec" else interpreter(peer, venvs)
    environment = {
        **os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1",
        "NNCF_EXTENSION_LOAD_TIMEOUT": "0",  # it gives up after 60 s of compiling its extension
    }  # fmt: skip
    parts = [("measure.py", peer, name, results, *options) for name in NETS]
    parts.append(("mistakes.py", peer, results))
    if importlib.util.find_spec("timm"):
        parts.append(("networks.py", peer, results))
    with (results / f"{peer}.log").open("w") as log:
        for program, *words in parts:
            command = [python, HERE / program, *words]
            done = subprocess.run(
                [*map(str, command)], env=environment, stdout=log, stderr=log, check=False
            )
            print(f"{peer}: {program} {words[1]} ended with {done.returncode}", flush=True)


def _read(results: Path, ending: str) -> dict[str, dict[str, Any]]:
    files = {peer: results / f"{peer}-{ending}.json" for peer in PEERS}
    return {peer: json.loads(file.read_text()) for peer, file in files.items() if file.exists()}


def _ratio(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, list):
        return "failed" if value else "-"
    low, middle, high = value
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _of_seeds(row: dict[str, Any], width: str, key: str, digits: int) -> str:
    """The figure of each seed's training, smallest to largest."""
    results = row.get(width)
    if results is None or results == "not offered":
        return "not offered" if results else "-"
    numbers = [result[key] for result in results if key in result]
    if not numbers:
        return "failed"
    low, high = min(numbers), max(numbers)
    same = f"{low:.{digits}f}" == f"{high:.{digits}f}"
    return f"{low:.{digits}f}" if same else f"{low:.{digits}f} to {high:.{digits}f}"


def table(columns: dict[str, Callable[[dict[str, Any]], str]], rows: dict[str, Any]) -> str:
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [
        [NAMES[peer], *(cell(row) for cell in columns.values())] for peer, row in rows.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


COSTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "prepare and calibrate, s": lambda r: str(r["prepare_s"]),
    "a step of training, times float's": lambda r: _ratio(r, "step"),
    "peak memory, MiB": lambda r: str(r["peak_before_training_mib"]),
    "export, s": lambda r: _of_seeds(r, "int8", "export_s", 1),
    "speed in onnxruntime, times float32's": lambda r: _ratio(r, "speed"),
    "outputs from those trained, mean": lambda r: _of_seeds(r, "int8", "mean", 4),
    "worst": lambda r: _of_seeds(r, "int8", "worst", 3),
}
ACCURACY: dict[str, Callable[[dict[str, Any]], str]] = {
    "float": lambda r: f"{r['float']:.1f}",
    "int8, trained": lambda r: _of_seeds(r, "int8", "fake_quant", 1),
    "int8, the file": lambda r: _of_seeds(r, "int8", "onnxruntime", 1),
    "int4 weights, trained": lambda r: _of_seeds(r, "int4", "fake_quant", 1),
    "int4 weights, the file": lambda r: _of_seeds(r, "int4", "onnxruntime", 1),
}


def printed(results: Path) -> str:
    """The tables as Markdown."""
    parts = []
    for name in NETS:
        rows = _read(results, name)
        parts.append(f"{name}\n\n{table(COSTS, rows)}")
        if any("int4" in row for row in rows.values()):
            parts.append(table(ACCURACY, rows))
    answers = _read(results, "mistakes")
    counts: dict[str, Callable[[dict[str, Any]], str]] = {
        answer: lambda row, answer=answer: str(
            sum(isinstance(said, dict) and said["answer"] == answer for said in row.values())
        )
        for answer in ANSWERS
    }
    parts.append(table(counts, answers))
    mistakes = [
        key for key, said in next(iter(answers.values()), {}).items() if isinstance(said, dict)
    ]
    lines = [["mistake", *(NAMES[peer] for peer in answers)], ["---"] * (len(answers) + 1)]
    lines += [
        [m, *(row.get(m, {"answer": "-"})["answer"] for row in answers.values())] for m in mistakes
    ]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.append(of_networks(_read(results, "networks")))
    return "\n\n".join(parts)


def of_networks(rows: dict[str, dict[str, Any]]) -> str:
    """What came of each network, a column for each quantizer, and how many are whole."""
    if not rows:
        return "no networks"
    lines = [["network", *(NAMES[peer] for peer in rows)], ["---"] * (len(rows) + 1)]
    for name in next(iter(rows.values())):
        cells = [row.get(name, {"result": "-"}) for row in rows.values()]
        lines.append([name.removeprefix("timm:"), *map(_outcome, cells)])
    whole = [[one["result"] == "whole" for one in row.values()] for row in rows.values()]
    lines.append(["**whole**", *(f"{sum(row)} of {len(row)}" for row in whole)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcome(one: dict[str, Any]) -> str:
    if one["result"] == "differs":
        return f"differs, {one['mean']:.2f}"
    return f"refused in {one['stage']}" if one["result"] == "refused" else str(one["result"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--venvs", type=Path, default=Path("peers"), help="their environments")
    parser.add_argument("--results", type=Path, default=Path("peers-results"))
    parser.add_argument("--table", action="store_true", help="print what is measured so far")
    given, options = parser.parse_known_args()
    if unknown := set(given.peers) - set(PEERS):
        parser.error(f"no such quantizer: {', '.join(sorted(unknown))}")
    given.results.mkdir(parents=True, exist_ok=True)
    for peer in given.peers:
        measure(peer, given.venvs.absolute(), given.results.absolute(), options)
    if given.table:
        print(printed(given.results))


if __name__ == "__main__":
    main()

"""qatspec beside other quantizers: the same nets, pictures, seeds and steps of training.

    python -m tests.bench.peers qatspec brevitas --venvs FOLDER --results FOLDER
    python -m tests.bench.peers qatspec brevitas --costs --venvs FOLDER --results FOLDER
    python -m tests.bench.peers --table --results FOLDER
    python -m tests.bench.peers --page --results FOLDER

The first command measures each named quantizer in a virtual environment of its own (made at the
first use, see environments.py): measure.py for each net, then mistakes.py, and networks.py where
timm is installed. The results folder keeps a JSON file for each, so that one command a quantizer
adds a row, and a second call measures it again. The float nets are trained once, into the same
folder. Further options go to measure.py. The second command measures what preparing, calibrating
and memory take, in several processes each (costs.py). The third one prints the tables. The fourth
keeps in docs/peers/*.json the figures whose tables docs/peers.md has between `<!-- TABLE -->` and
`<!-- end -->`, and fills these tables from all that are kept; a test holds the page to them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # its programs run in environments without this package

from environments import PACKAGES, interpreter  # noqa: E402
from task import NETS, PROCESSES  # noqa: E402

PEERS = ("qatspec", *PACKAGES)
NAMES = {
    "qatspec": "qatspec", "fx_qnnpack": "torch.ao FX, qnnpack", "pt2e": "torchao 0.18.0, pt2e, x86",
    "brevitas": "Brevitas 0.13.4", "aimet": "AIMET 2.42.0", "mct": "MCT 2.6.1",
    "modelopt": "ModelOpt 0.47.0", "nncf": "NNCF 3.4.0",
}  # fmt: skip
ANSWERS = ("named", "right", "error", "said", "silent")
PAGE = HERE.parents[2] / "docs/peers.md"
KEPT = PAGE.with_suffix("")
_PART = re.compile(r"<!-- ([\w: -]+) -->\n.*?<!-- end -->", re.DOTALL)


def measure(peer: str, venvs: Path, results: Path, parts: Sequence[Sequence[object]]) -> None:
    """Run programs for one quantizer; what they print goes into a log beside their results.

    parts: each program's name, and its words.
    """
    python = sys.executable if peer == "qatspec" else interpreter(peer, venvs)
    environment = {
        **os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1",
        "NNCF_EXTENSION_LOAD_TIMEOUT": "0",  # it gives up after 60 s of compiling its extension
    }  # fmt: skip
    with (results / f"{peer}.log").open("w") as log:
        for program, *words in parts:
            command = [python, HERE / str(program), *words]
            done = subprocess.run(
                [*map(str, command)], env=environment, stdout=log, stderr=log, check=False
            )
            print(f"{peer}: {program} {words[1]} ended with {done.returncode}", flush=True)


def parts_of(peer: str, results: Path, options: Sequence[str]) -> list[tuple[object, ...]]:
    """The programs that find out what the tables of costs, accuracy, mistakes and networks say."""
    parts: list[tuple[object, ...]] = [
        ("measure.py", peer, name, results, *options) for name in NETS
    ]
    parts.append(("mistakes.py", peer, results))
    if importlib.util.find_spec("timm"):
        parts.append(("networks.py", peer, results))
    return parts


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
    """A line for each row; the best figure of a column of BEST is bold."""
    cells = {
        title: {peer: cell(row) for peer, row in rows.items()} for title, cell in columns.items()
    }
    for title, column in cells.items():
        numbers = {
            peer: float(first[0])
            for peer, text in column.items()
            if (first := re.match(r"\d+(\.\d+)?", text))
        }
        if title in BEST and numbers:
            best = BEST[title](numbers.values())
            for peer in numbers:
                if numbers[peer] == best:
                    column[peer] = f"**{column[peer]}**"
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[NAMES[peer], *(column[peer] for column in cells.values())] for peer in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


COSTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "prepare and calibrate, s": lambda r: f"{r['prepare_s']:.1f}",
    "a step of training, times float's": lambda r: _ratio(r, "step"),
    "peak memory, MiB": lambda r: str(r["peak_before_training_mib"]),
    "export, s": lambda r: _of_seeds(r, "int8", "export_s", 1),
    "speed in onnxruntime, times float32's": lambda r: _ratio(r, "speed"),
    "outputs from those trained, mean": lambda r: _of_seeds(r, "int8", "mean", 4),
    "worst": lambda r: _of_seeds(r, "int8", "worst", 3),
}
#: Columns where one figure is better than another. Of accuracies none is: their error is larger.
BEST: dict[str, Callable[[Iterable[float]], float]] = {
    title: max if title.startswith("speed") else min for title in COSTS
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
    parts.append(of_costs(_read(results, "costs")))
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


def of_costs(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """For each net that is measured: seconds of `prepare`, those of them that calibrate, memory."""
    nets = [name for name in NETS if any(name in row for row in rows.values())]
    titles = ("prepare and calibrate, s", "of these, calibration", "peak memory, MiB")
    lines = [["", *(f"{name}: {title}" for name in nets for title in titles)]]
    lines.append(["---"] * len(lines[0]))
    for peer, row in rows.items():
        cells = [NAMES[peer]]
        for runs in (row.get(name, []) for name in nets):
            pooled = {
                key: [x for one in runs for x in one.get(key, [])]
                for key in ("prepare_s", "calibrate_s")
            }
            cells.append(_range(pooled["prepare_s"], 2))
            cells.append(_range(pooled["calibrate_s"], 2) if pooled["calibrate_s"] else "one call")
            cells.append(_range([one["peak_mib"] for one in runs], 0))
        lines.append(cells)
    for column in range(1, len(lines[0])):
        _mark([row for row in lines[2:] if row[column][0].isdigit()], column)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mark(rows: Sequence[list[str]], column: int) -> None:
    """Make the smallest figure of a column bold."""
    medians = [float(row[column].partition(" ")[0]) for row in rows]
    for row, median in zip(rows, medians, strict=True):
        if median == min(medians):
            row[column] = f"**{row[column]}**"


def _range(numbers: Sequence[float], digits: int) -> str:
    """The median, with the smallest and the largest in brackets."""
    if not numbers:
        return "-"
    middle, low, high = (f(numbers) for f in (statistics.median, min, max))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def keep(results: Path, folder: Path) -> None:
    """Add the figures of a results folder to those that are kept, by net or kind of result."""
    folder.mkdir(exist_ok=True)
    marked = {match[1].partition(":")[0] for match in _PART.finditer(PAGE.read_text("utf-8"))}
    for name in sorted(marked):
        if rows := _read(results, name):
            file = folder / f"{name}.json"
            known = json.loads(file.read_text("utf-8")) if file.exists() else {}
            known |= {peer: _figures(row) for peer, row in rows.items()}
            ordered = {peer: known[peer] for peer in PEERS if peer in known}
            file.write_text(f"{json.dumps(ordered, indent=1)}\n", "utf-8")


def _figures(value: Any) -> Any:
    """A result without the texts of errors, which name files of the machine, but for their kind."""
    if isinstance(value, str):
        return value.partition(":")[0]
    if isinstance(value, list):
        return [_figures(one) for one in value]
    if isinstance(value, dict):
        texts = ("note", "why")
        return {key: _figures(one) for key, one in value.items() if key not in texts}
    return None if value != value else value  # NaN is not JSON


def tables(kept: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Name in the page -> its table."""
    made = {}
    for name in NETS:
        if name in kept:
            made[f"{name}: costs"] = table(COSTS, kept[name])
            made[f"{name}: accuracy"] = table(ACCURACY, kept[name])
    if "costs" in kept:
        made["costs"] = of_costs(kept["costs"])
    if "networks" in kept:
        made["networks"] = of_networks(kept["networks"])
    return made


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with each table between its marks."""
    return _PART.sub(lambda match: f"<!-- {match[1]} -->\n{made[match[1]]}\n<!-- end -->", page)


def kept_figures() -> dict[str, dict[str, Any]]:
    """Net or kind of result -> its figures by quantizer."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in KEPT.glob("*.json")}


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
    parser.add_argument("--costs", action="store_true", help="prepare, calibration, memory alone")
    parser.add_argument("--table", action="store_true", help="print what is measured so far")
    parser.add_argument("--page", action="store_true", help="keep it, and fill docs/peers.md")
    given, options = parser.parse_known_args()
    if unknown := set(given.peers) - set(PEERS):
        parser.error(f"no such quantizer: {', '.join(sorted(unknown))}")
    given.results.mkdir(parents=True, exist_ok=True)
    for peer in given.peers:
        results = given.results.absolute()
        parts = parts_of(peer, results, options)
        if given.costs:
            parts = [("costs.py", peer, name, results) for name in NETS] * PROCESSES
        measure(peer, given.venvs.absolute(), results, parts)
    if given.table:
        print(printed(given.results))
    if given.page:
        keep(given.results, KEPT)
        PAGE.write_text(filled(PAGE.read_text("utf-8"), tables(kept_figures())), "utf-8")


if __name__ == "__main__":
    main()

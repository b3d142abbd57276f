"""Every net of the zoo in some dtypes, opsets and marches: what `check` foresees is what happens.

    python tests/bench/foreseen.py --each 3 --log foreseen.jsonl

A line of JSON a case goes to --log; a second run leaves out the cases that it holds. Exit code 1
where a case differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qatspec.diag import DiagnosticError
from qatspec.spec import load
from tests.foreseen import NETS, Case, cases, difference, foreseen, happens, write


def outcome(case: Case) -> str:
    """ "" where all agrees; "early" where loading the spec tells; else what differs."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            spec = load(write(folder, case), allow_code=True)
        except DiagnosticError:
            return "early"
        try:
            return difference(foreseen(spec, folder), happens(spec, folder / "work"))
        except Exception as problem:  # noqa: BLE001  whatever goes wrong is what this looks for
            where = traceback.extract_tb(problem.__traceback__)[-1]
            return f"{type(problem).__name__}: {problem} ({where.name}:{where.lineno})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=3, help="cases of each net")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("foreseen.jsonl"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    done = {}
    if arguments.log.exists():
        lines = map(json.loads, arguments.log.read_text().splitlines())
        done = {json.dumps(line["case"]): line["outcome"] for line in lines}
    wanted = [
        case
        for number, name in enumerate(NETS)
        for case in cases((name,), 27, arguments.seed + number)[number % 9 :: 9][: arguments.each]
    ]
    with arguments.log.open("a") as log:
        for case in wanted:
            if (key := json.dumps(case)) not in done:
                done[key] = outcome(case)
                log.write(json.dumps({"case": case, "outcome": done[key]}) + "\n")
                log.flush()
    found = {key: done[key] for key in map(json.dumps, wanted)}
    for key, text in found.items():
        if text not in ("", "early"):
            print(f"{key}: {text}")
    early = sum(text == "early" for text in found.values())
    wrong = sum(text not in ("", "early") for text in found.values())
    print(f"{len(found)} cases of {len(NETS)} nets: {early} told by the spec, {wrong} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

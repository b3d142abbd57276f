"""What preparing, calibrating and memory take, of one quantizer, in a process of its own.

    python tests/bench/peers/costs.py PEER NET FOLDER [--rounds 2]

`python -m tests.bench.peers PEER --costs` calls it for each net, in the quantizer's environment, as
often as `task.PROCESSES` says. FOLDER/PEER-costs.json keeps what so many processes found last: CPU
seconds of one thread for each preparation but the first, which imports and compiles, those of them
that the calibration took, and the process's peak memory. Where a project calibrates inside a call
of its own, the two are not told apart.
"""

from __future__ import annotations

import json
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import adapter
import task
import torch
from adapters import ADAPTERS
from measure import Comparison, parser_of


def measured(peer: str, name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Prepare 1 + `rounds` times with 8 bits; returns the seconds and the peak in MiB."""
    torch.set_num_threads(1)
    compared = Comparison(ADAPTERS[peer], name, folder, steps=0)
    compared.prepared(8)
    found: dict[str, Any] = {"prepare_s": [], "calibrate_s": []}
    for _ in range(rounds):
        adapter.calibrating.clear()
        begun = time.process_time()
        compared.prepared(8)
        found["prepare_s"].append(round(time.process_time() - begun, 2))
        found["calibrate_s"].append(round(sum(adapter.calibrating), 2))
    if not any(found["calibrate_s"]):
        del found["calibrate_s"]
    found["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    result = measured(options.peer, options.net, options.folder, options.rounds)
    file = options.folder / f"{options.peer}-costs.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[options.net] = [*kept.get(options.net, []), result][-task.PROCESSES :]
    file.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""How fast a compiled file runs by its commands, against the executor of its Program.

    python tests/bench/stream_speed.py WORKDIR [--images 160] [--batch 8] [--rounds 5]

WORKDIR is that of a run with the stages convert and compile. Images are noise: the time does not
depend on them. Prints seconds of CPU on one thread, the least of the rounds, which run in turn, and
their ratio. Exit code 1: the integers differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from qatspec.program import Artifact, load_program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    (program_file,) = given.workdir.glob("convert/*.program")
    (file,) = given.workdir.glob("compile/*.bin")
    program, artifact = load_program(program_file), Artifact.load(file)
    rng = np.random.default_rng(0)
    images = [
        [rng.integers(-128, 128, (given.batch, *p.shape)).astype(p.dtype) for p in program.inputs]
        for _ in range(-(-given.images // given.batch))
    ]
    pairs = zip(program.run(*images[0]), artifact.run(*images[0]), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    runs = {"Program": program.run, "commands": artifact.run}
    seconds = {name: float("inf") for name in runs}
    for _ in range(given.rounds):
        for name, run in runs.items():
            start = time.process_time()
            for ints in images:
                run(*ints)
            seconds[name] = min(seconds[name], time.process_time() - start)
    for name, least in seconds.items():
        print(f"{name:10} {least:7.3f} s of CPU for {len(images) * given.batch} images")
    print(
        f"commands over the Program: {seconds['commands'] / seconds['Program']:.2f}, equal: {same}"
    )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()

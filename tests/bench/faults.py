"""Kill, starve and damage runs, and compare what they end with to an undisturbed run.

    python tests/bench/faults.py                                  # every case, resumable
    python tests/bench/faults.py crash torn --points 40 --state faults.json
    python tests/bench/faults.py kill-fast --points 50
    python tests/bench/faults.py kill-full --points 5             # about 10 minutes

Cases (most use the toy project of tests/toy; a case of several points counts each):

kill-fast, kill-full   SIGKILL after a random time of `specs/quickstart.yaml` (`vars.fast=1`, full)
crash                  SIGKILL right before a file operation (open for writing, rename, remove,
                       mkdir, fsync) in the work directory
torn                   the same, and every file that was written and not synced loses its end
full-disk, io-error, read-only
                       ENOSPC or EROFS from one file operation on, EIO at one
clock                  the clock is set back by 400 days between kill and resume
two-runs               two runs of one work directory at once
edit                   the learning rate is edited between kill and resume, and edited back
damaged                the newest checkpoint is cut, changed, emptied or removed, or its sidecar is
more-epochs, threads   settings that change bytes are edited between kill and resume
finished               a file of a finished stage is damaged

Every point ends with the same bytes as the undisturbed run, does not restart before its last intact
checkpoint, and prints no traceback. Exit code 1 where one did not. Runs are forked from this
process, which has imported torch once; faults are injected by an audit hook of the child.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from injection import PATIENCE, Fault, Project, wait

from qatspec.train.checkpoint import load


@dataclass
class Bench:
    """Undisturbed runs, made once, and the choice of points."""

    scratch: Path
    points: int
    seed: int

    def fresh(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def reference(self, make: Callable[[Path], Project]) -> tuple[dict[str, str], float, int]:
        """(results, seconds, number of file operations) of an undisturbed run."""
        if make not in self._references:
            project = make(self.fresh())
            counted = Fault("none", -1, project.workdir)
            report = project.folder / "operations"
            started = time.monotonic()

            def prepare() -> None:
                counted.install()
                ended = os._exit

                def exit_(code: int) -> None:
                    report.write_text(str(counted.count))
                    ended(code)

                os._exit = exit_

            code = project.run(prepare)
            assert code == 0, project.log()
            seconds = time.monotonic() - started
            self._references[make] = (project.results(), seconds, int(report.read_text()))
        return self._references[make]

    def __post_init__(self) -> None:
        self._references: dict[Any, tuple[dict[str, str], float, int]] = {}


def fast(folder: Path) -> Project:
    return Project.quickstart(folder, "--set", "vars.fast=1")


def full(folder: Path) -> Project:
    return Project.quickstart(folder)


def toy(folder: Path) -> Project:
    return Project.toy(folder)


def ends_equal(project: Project, expected: dict[str, str], allowed: tuple[int, ...]) -> list[str]:
    """Run until the end; what is wrong with the exit codes, the log or the results."""
    wrong = []
    code = project.run()
    if code not in allowed:
        wrong.append(f"exit {code}")
    if "Traceback" in (log := project.log()):
        wrong.append("a traceback: " + log[log.index("Traceback") :][-300:])
    found = project.results()
    wrong += [f"{path} is missing" for path in expected.keys() - found.keys()]
    wrong += [f"{path} is left over" for path in found.keys() - expected.keys()]
    wrong += [f"{p} differs" for p in expected.keys() & found.keys() if expected[p] != found[p]]
    return wrong


def killed_at_random(
    make: Callable[[Path], Project],
) -> Callable[[Bench, random.Random], list[str]]:
    def case(bench: Bench, rng: random.Random) -> list[str]:
        expected, seconds, _ = bench.reference(make)
        project = make(bench.fresh())
        for _ in range(rng.choice((1, 1, 2, 3))):
            child = project.start()
            time.sleep(rng.uniform(0, seconds))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            wait(child)
        return ends_equal(project, expected, (0,))

    return case


def faulty(kind: str) -> Callable[[Bench, random.Random], list[str]]:
    """A fault at a random file operation, after which a plain run ends as the undisturbed one."""

    def case(bench: Bench, rng: random.Random) -> list[str]:
        expected, _, operations = bench.reference(toy)
        project = toy(bench.fresh())
        fault = Fault(kind, rng.randint(1, operations), project.workdir)
        code = project.run(fault.install)
        allowed = (-signal.SIGKILL,) if kind in ("kill", "torn") else (0, 1)
        wrong = [] if code in allowed else [f"operation {fault.at}: exit {code}"]
        if kind.startswith("E") and code == 1 and "error[QS" not in project.log():
            wrong.append("no diagnostic")
        return [f"operation {fault.at}: {w}" for w in wrong + ends_equal(project, expected, (0,))]

    return case


def stopped(bench: Bench, rng: random.Random, epochs: int = 1) -> tuple[Project, int]:
    """A toy project that was killed in float, and the step of its newest checkpoint."""
    project = toy(bench.fresh())
    seen = project.folder / "events"
    child = project.start()
    until = time.monotonic() + PATIENCE
    newest = project.workdir / f"float/float-checkpoint-epoch-{epochs:04d}.pth.tar"
    while not (newest.exists() or (seen.exists() and "step_finished" in seen.read_text())):
        assert time.monotonic() < until, project.log()
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.01))
    os.killpg(child, signal.SIGKILL)
    wait(child)
    last = project.workdir / "float/float-checkpoint-last.pth.tar"
    return project, load(last).step


def clock(bench: Bench, rng: random.Random) -> list[str]:
    expected, *_ = bench.reference(toy)
    project, _ = stopped(bench, rng)
    real = time.time

    def back() -> None:
        time.time = lambda: real() - 400 * 86400

    project.run(back)
    return ends_equal(project, expected, (0,))


def two_runs(bench: Bench, rng: random.Random) -> list[str]:
    expected, *_ = bench.reference(toy)
    project = toy(bench.fresh())
    children = [project.start()]
    time.sleep(rng.uniform(0, 0.5))
    children.append(project.start())
    codes = sorted(wait(child) for child in children)
    wrong = [] if codes in ([0, 0], [0, 1]) else [f"exits {codes}"]
    if codes == [0, 1] and "QS900" not in project.log():
        wrong.append("no QS900")
    return wrong + ends_equal(project, expected, (0,))


def edited(old: str, new: str) -> Callable[[Bench, random.Random], list[str]]:
    """Interrupt, edit, run, edit back: nothing is trained again that was there."""

    def case(bench: Bench, rng: random.Random) -> list[str]:
        expected, *_ = bench.reference(toy)
        project, step = stopped(bench, rng)
        project.edit(old, new)
        child = project.start()
        time.sleep(rng.uniform(0.3, 1.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        wait(child)
        project.edit(new, old)
        before = len(project.resumed())
        wrong = ends_equal(project, expected, (0,))
        starts = dict(reversed(project.resumed()[before:]))
        if "float" in starts and (starts["float"] or 0) < step:
            wrong.append(f"resumed from step {starts['float']}, not {step}")
        return wrong

    return case


def threads(bench: Bench, rng: random.Random) -> list[str]:
    """Another thread count sets the training aside, and the first one resumes it."""
    expected, *_ = bench.reference(toy)
    project, step = stopped(bench, rng)

    def two() -> None:
        os.environ["OMP_NUM_THREADS"] = "2"

    project.run(two)
    before = len(project.resumed())
    wrong = ends_equal(project, expected, (0,))
    starts = dict(reversed(project.resumed()[before:]))
    if "float" in starts and (starts["float"] or 0) < step:
        wrong.append(f"resumed from step {starts['float']}, not {step}")
    return wrong


def damage(path: Path, rng: random.Random) -> str:
    """Damage a checkpoint or its sidecar in one of the ways that disks and people do."""
    sidecar = path.with_name(path.name + ".sha256")
    data = path.read_bytes()
    way = rng.choice(("cut", "flip", "empty", "gone", "no sidecar", "wrong sidecar", "both gone"))
    if way == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif way == "flip":
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "wrong sidecar":
        sidecar.write_text(f"{'0' * 64}  {path.name}\n")
    if way in ("gone", "both gone"):
        path.unlink()
    if way in ("no sidecar", "both gone"):
        sidecar.unlink()
    return way


def damaged(bench: Bench, rng: random.Random) -> list[str]:
    """The newest checkpoint of an interrupted training is damaged: an older one serves."""
    expected, *_ = bench.reference(toy)
    project, _ = stopped(bench, rng, epochs=2)
    way = damage(project.workdir / "float/float-checkpoint-last.pth.tar", rng)
    before = len(project.resumed())
    wrong = ends_equal(project, expected, (0,))
    starts = dict(reversed(project.resumed()[before:]))
    if "float" in starts and not starts["float"]:
        wrong.append("training started from the beginning")
    return [f"{way}: {w}" for w in wrong]


def finished(bench: Bench, rng: random.Random) -> list[str]:
    """One damaged file of a finished stage does not train it again."""
    expected, *_ = bench.reference(toy)
    project = toy(bench.fresh())
    project.run()
    stage = rng.choice(("float", "qat"))
    which = rng.choice(("last", "best"))
    way = damage(project.workdir / f"{stage}/{stage}-checkpoint-{which}.pth.tar", rng)
    before = len(project.resumed())
    wrong = ends_equal(project, expected, (0,))
    if which == "last" and stage in dict(project.resumed()[before:]):
        wrong.append(f"{stage} was trained again")
    return [f"{stage} {which} {way}: {w}" for w in wrong]


CASES: dict[str, Callable[[Bench, random.Random], list[str]]] = {
    "crash": faulty("kill"),
    "torn": faulty("torn"),
    "full-disk": faulty("ENOSPC"),
    "io-error": faulty("EIO"),
    "read-only": faulty("EROFS"),
    "clock": clock,
    "two-runs": two_runs,
    "edit": edited("lr: 0.05", "lr: 0.06"),
    "more-epochs": edited("epochs: 3", "epochs: 4"),
    "threads": threads,
    "damaged": damaged,
    "finished": finished,
    "kill-fast": killed_at_random(fast),
    "kill-full": killed_at_random(full),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", help="default: all but kill-full")
    parser.add_argument("--points", type=int, default=10, help="points of each case in all")
    parser.add_argument("--seconds", type=float, default=1800.0, help="budget of this run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file to resume from and to keep figures in")
    given = parser.parse_args()
    names = given.cases or [name for name in CASES if name != "kill-full"]
    state: dict[str, Any] = {}
    if given.state is not None and given.state.exists():
        state = json.loads(given.state.read_text())
    until = time.monotonic() + given.seconds
    with scratch() as folder:
        bench = Bench(folder, given.points, given.seed)
        for name in names:
            for point in range(given.points):
                key = f"{given.seed}:{name}:{point}"
                if key in state or time.monotonic() > until:
                    continue
                state[key] = CASES[name](bench, random.Random(key))
                for wrong in state[key]:
                    print(f"{key}: {wrong}", flush=True)
                if given.state is not None:
                    given.state.write_text(json.dumps(state, indent=2))
            done = {k: v for k, v in state.items() if k.split(":")[1] == name}
            bad = sum(map(bool, done.values()))
            print(f"{name:12} {len(done):4} points {bad:4} wrong", flush=True)
    sys.exit(any(state.values()))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


if __name__ == "__main__":
    main()

"""Arm's compiler Vela in a process of its own that compiles one file after another.

Vela's import takes a hundred times as long as it compiles a layer, and part of it is C++, which
must not end the process of the user. So a process that has imported it is kept, and gets its
arguments as lines of JSON.

    python -m qatspec_litert.vela    reads [arguments] a line, writes {"code": ..., "said": ...}
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import NamedTuple


class Ended(NamedTuple):
    """How a run of Vela ended: its exit code, and what it printed."""

    code: int
    said: str


_LOCK = threading.Lock()
_process: subprocess.Popen[str] | None = None


def run_vela(arguments: Sequence[str]) -> Ended:
    """Vela with these arguments of its command line."""
    global _process
    with _LOCK:
        if _process is None or _process.poll() is not None:
            _process = subprocess.Popen(
                [sys.executable, "-m", "qatspec_litert.vela"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            atexit.register(_end, _process)
        process = _process
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(list(arguments)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return Ended(process.wait() or 1, "")
    return Ended(**json.loads(answer))


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that waits for its next line."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _answer(arguments: list[str]) -> Ended:
    """Run Vela here. What it prints, and what its C++ prints, goes into a file."""
    from ethosu.vela import vela

    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            code = int(vela.main(arguments) or 0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception as problem:  # noqa: BLE001 - any fault of Vela is told as its refusal
            sys.stdout.write(f"Error: {problem}\n")
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        log.seek(0)
        return Ended(code, log.read().decode("utf-8", "replace")[-20_000:])


def main() -> None:
    with os.fdopen(os.dup(1), "w") as answers:
        for line in sys.stdin:
            ended = _answer(json.loads(line))
            answers.write(json.dumps(ended._asdict()) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()

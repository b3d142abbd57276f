"""How long the digest of a data set of many small files takes, cold and warm.

    python tests/bench/data_digests.py [FILES] [BYTES]

It writes FILES (default 120,000) files of BYTES (2,048) random bytes in folders of 1,000 below the
temporary folder, and asks a new process for their digest: first with an empty cache of digests,
then three times with the cache that the first left. Reading from the disk is not measured: the
files were just written and lie in the memory of the operating system.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ASK = """
import sys, time
from pathlib import Path
from qatspec_vision.data.files import files
from qatspec.api import content_digest
root = Path(sys.argv[1])
start = time.perf_counter()
named = {name: root / name for name in files(root)}
listed = time.perf_counter()
content_digest(named)
print(f"list {listed - start:.2f} s, digest {time.perf_counter() - listed:.2f} s")
"""


def main(count: int, size: int) -> None:
    """Measure and print one line a process."""
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "data"), Path(folder, "cache")
        for number in range(count):
            path = root / f"{number // 1000:04d}" / f"{number:06d}.jpg"
            if number % 1000 == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(os.urandom(size))
        time.sleep(3)  # what has just changed is not remembered
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        for state in ("cold", "warm", "warm", "warm"):
            command = [sys.executable, "-c", ASK, str(root)]
            told = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            print(f"{count} files of {size} bytes, {state}: {told.stdout.strip()}", flush=True)
        database = cache / "qatspec" / "contents-1.sqlite"
        print(f"the cache has {database.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [120_000, 2_048][len(given) :]))

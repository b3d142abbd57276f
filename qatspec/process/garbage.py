"""Python's search for cyclic garbage, paused where it only costs time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_kept() -> Iterator[None]:
    """Pause the search for cyclic garbage: a context manager, for code that makes many objects and
    keeps them.

    The collector walks through all objects again and again while a graph of thousands of nodes is
    made, so that the time of `prepare` would grow faster than the graph. What is unreachable is
    freed after the block. Where a caller has switched the collector off, it stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

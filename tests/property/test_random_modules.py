"""Random modules as source code: every form equal, or refused by a diagnostic.
`tests/bench/random_modules.py` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.module_check import check
from tests.random_modules import write_module


@pytest.mark.parametrize("seed", range(30))
def test_equal_or_refused(seed, tmp_path):
    found = check(seed, tmp_path)
    assert found["result"] in ("equal", "refused"), (found, write_module(seed)[0])


def test_the_same_seed_gives_the_same_source():
    first, again = write_module(7), write_module(7)
    assert first[0] == again[0] and first[1].equal(again[1])
    assert len({write_module(seed)[0] for seed in range(8)}) == 8


def test_most_are_not_refused(tmp_path):
    results = [check(seed, tmp_path)["result"] for seed in range(100, 112)]
    assert results.count("equal") >= 8

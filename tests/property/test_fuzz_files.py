"""A short form of tests/bench/fuzz_files.py: a few hundred files of each kind."""

import random

import fuzz_files as fuzz
import pytest

#: kind -> how many files of it; a Program that loads is also run
COUNTS = {
    "program": 300, "bin": 300, "onnx": 300, "checkpoint": 40, "picture": 400, "annotations": 400,
}  # fmt: skip


@pytest.mark.parametrize("kind", COUNTS)
def test_files_end_in_results_or_diagnostics(kind, tmp_path):
    _, opener = fuzz.KINDS[kind]
    attempt = opener(tmp_path)
    ended = set()
    for index in range(COUNTS[kind]):
        codes, words = attempt(7, index)
        assert words == "", f"fuzz_files.py {kind} --seed 7 --show {index}"
        ended.add(bool(codes))
    assert ended == {True, False}, "some files must be refused and some accepted"


@pytest.mark.parametrize("kind", COUNTS)
def test_inputs_depend_on_their_number_alone(kind):
    make, _ = fuzz.KINDS[kind]
    assert make(random.Random("0:5")) == make(random.Random("0:5"))

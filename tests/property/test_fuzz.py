"""A short form of tests/bench/fuzz_specs.py: no traceback, no hang, no flood of memory."""

import fuzz_specs as fuzz
import fuzzing


def test_inputs_depend_on_their_number_alone():
    assert [fuzz.make(0, i) for i in range(50)] == [fuzz.make(0, i) for i in range(50)]
    assert fuzz.make(0, 1) != fuzz.make(1, 1)


def test_a_traceback_is_found(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes((fuzz.CASES / "QS201_unknown_key" / "fixed.yaml").read_bytes())
    assert "AttributeError" in fuzz.tried(path, names=object())[1]


def test_specs_end_in_diagnostics(tmp_path):
    attempt = fuzz.target(tmp_path)
    before = fuzzing.peak()
    for index in range(1500):
        assert attempt(7, index)[1] == "", f"fuzz_specs.py --seed 7 --show {index}"
    assert fuzzing.peak() - before < fuzzing.MEMORY

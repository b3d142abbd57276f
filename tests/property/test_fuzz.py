"""A short form of tests/bench/fuzz_specs.py: no traceback, no hang, no flood of memory."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[1] / "bench" / "fuzz_specs.py"
_SPEC = importlib.util.spec_from_file_location("qatspec_fuzz_specs", _PATH)
fuzz = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz)


def test_inputs_depend_on_their_number_alone():
    assert [fuzz.make(0, i) for i in range(50)] == [fuzz.make(0, i) for i in range(50)]
    assert fuzz.make(0, 1) != fuzz.make(1, 1)


def test_a_traceback_is_found(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes((fuzz.CASES / "QS201_unknown_key" / "fixed.yaml").read_bytes())
    assert "AttributeError" in fuzz.tried(path, names=object())[1]


def test_specs_end_in_diagnostics(tmp_path):
    path = tmp_path / "spec.yaml"
    (tmp_path / "base.yaml").write_text("qatspec: 1\nvars: {a: 1}\n")
    spec = importlib.util.spec_from_file_location("qatspec_fuzz_fake", fuzz.CASES / "plugin.py")
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    names = fake.fake_registry()
    before = fuzz._peak()
    for index in range(1500):
        path.write_bytes(fuzz.make(7, index))
        assert fuzz.tried(path, names)[1] == "", f"fuzz_specs.py --seed 7 --show {index}"
    assert fuzz._peak() - before < fuzz.MEMORY

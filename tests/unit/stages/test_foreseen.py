"""What is foreseen is what happens: dtype x opset x march x net, tried and then really run.

Single layers, and a sample of the nets of the zoo; `tests/bench/foreseen.py` runs all of them.
"""

from __future__ import annotations

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.spec import load
from tests.foreseen import NETS, PICTURES, cases, difference, foreseen, happens, write
from tests.sample import sample

CASES = [*cases(PICTURES, 27, 11), *sample(cases(NETS, 6, 4), 2)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_what_is_foreseen_happens(tmp_path, case):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    path = write(tmp_path, case)
    try:
        spec = load(path, allow_code=True)
    except DiagnosticError as error:  # known without the model
        assert {d.code for d in error.diagnostics} <= {"QS604", "QS720"}
        path.write_text(path.read_text().replace(f"opset: {case['opset']}", "opset: 21"))
        load(path, allow_code=True)  # the way out
        return
    early = foreseen(spec, tmp_path)
    assert difference(early, happens(spec, tmp_path / "work")) == ""

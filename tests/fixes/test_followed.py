"""Every fix that a diagnostic of QS5xx to QS7xx names is followed, and what it gives passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qatspec.diag import CODES
from qatspec.source import Document, load_document
from tests.fixes import calibrating, files, inputs, lowering, objects, quantizing, tracing
from tests.fixes.following import Case, codes, errors

CASES = [
    *tracing.CASES,
    *objects.CASES,
    *inputs.CASES,
    *quantizing.CASES,
    *calibrating.CASES,
    *lowering.CASES,
    *files.CASES,
]
#: Codes that no change of the user's answers.
WITHOUT_FIX = {"QS730": "a fault of an op's handler, to be reported"}


#: Codes of which no part of a spec is at fault, but an installation, a file or a caller.
OUTSIDE = {"QS710", "QS711", "QS712", "QS721", "QS722", "QS723", "QS725"}
TOY = Path(__file__).parents[1] / "toy" / "toy.yaml"


@pytest.fixture(scope="module")
def spec() -> Document:
    return load_document(TOY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}: {case.follows[:40]}")
def test_the_fix_passes(case: Case, spec: Document) -> None:
    before = list(case.refused())
    found = [d for d in before if d.code == case.code]
    assert found, f"{case.code} was not reported, but {codes(before)}"
    placed = spec.resolve(d for d in before if "QS5" <= d.code < "QS8" and d.code not in OUTSIDE)
    assert [d.message for d in placed if not d.span] == [], "a user is not told a file and line"
    advice = [d.help or d.code.page for d in found]
    assert any(case.follows in text for text in advice), advice
    after = list(case.fixed())
    assert errors(after) == []
    assert set(codes(after)) - set(case.allowed) == set()


def test_what_no_spec_is_at_fault_for() -> None:
    without = {str(c) for c, code in CODES.items() if "QS5" <= c < "QS8" and not code.about}
    assert without == OUTSIDE


def test_every_code_is_followed() -> None:
    asked = {code for code in CODES if "QS5" <= code < "QS8"}
    followed = {case.code for case in CASES}
    assert asked - followed - set(WITHOUT_FIX) == set()
    assert followed.isdisjoint(WITHOUT_FIX)

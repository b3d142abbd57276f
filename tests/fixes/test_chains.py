"""What a message proposes is not refused by the next one: ops x marches x ways to prepare."""

from __future__ import annotations

import pytest

from qatspec.diag import Diagnostic
from tests.fixes.chains import OPS, State, proposals
from tests.sample import sample

#: march, preset, dtype of activations, quantize_output
WAYS = (
    ("bayes", None, "qint8", True),
    ("bayes", "horizon", "qint8", True),
    ("bayes", "horizon", "qint8", False),
    ("bernoulli2", None, "qint16", True),
    ("bernoulli2", "horizon", "qint8", True),
    ("onnxruntime", None, "qint8", True),
    ("onnxruntime", None, "qint16", False),
)
LITERT = ("litert", None, "qint8", True)
ON_LITERT = {
    "bicubic", "bicubic to a size", "aligned", "antialias", "area", "up in 3 dims", "by three",
    "sum with a vector", "grid sample",
}  # fmt: skip
STEPS = 3


def causes(state: State) -> dict[tuple[str, str], Diagnostic]:
    """(code, op or module) -> what is refused."""
    found = [d for d in state.reported() if d.severity == "error"]
    return {(str(d.code), d.subject.partition(" ")[0]): d for d in found}


def follow(state: State, before: tuple[State, ...] = ()) -> None:
    """Follow each proposal of each refusal, until nothing is refused. What is refused then was
    refused before, unless a proposal chose another march."""
    refused = causes(state)
    path = [step.follows for step in (*before, state)]
    assert not refused or len(before) < STEPS, f"{path} ends at {sorted(refused)}"
    for cause, found in refused.items():
        for proposed in proposals(state, found):
            assert proposed not in before, f"{path} leads in a circle"
            after = causes(proposed)
            assert cause not in after, f"{path}, {proposed.follows}: {after[cause].message}"
            new = set(after) - set(refused)
            assert not new or proposed.follows == "another march", f"{path}: {new}"
            if after:
                follow(proposed, (*before, state))


@pytest.mark.parametrize("op", sample(list(OPS), 3))
def test_proposals_lead_to_integers(op: str) -> None:
    for march, preset, dtype, output in (*WAYS, *([LITERT] if op in ON_LITERT else ())):
        follow(State(op, march, preset, dtype, output))


def test_ops_are_refused() -> None:
    """The nets above are refused for the ops that they are about, by several codes."""
    codes = {
        code for op in OPS for code, _ in causes(State(op, "bayes", "horizon", "qint8", False))
    }
    assert {"QS501", "QS502", "QS604", "QS701", "QS801"} <= codes

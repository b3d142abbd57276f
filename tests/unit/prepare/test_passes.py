"""The list of passes, and the verifier that runs after each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import InternalError
from qatspec.graph.trace import trace
from qatspec.prepare.capture import capture_root_call
from qatspec.prepare.fuse import Match, fuse_by
from qatspec.prepare.passes import PASSES, Pass, run_passes
from qatspec.prepare.unit import Unit
from qatspec.prepare.verify import problem
from qatspec.spec import qconfig_rules
from qatspec.types import FusePattern, PrepareConfig
from tests.unit.prepare.conftest import INT8, image

NAMES = [step.name for step in PASSES]


class Net(nn.Module):
    """Something for most passes to do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.same = nn.Identity()
        self.weight = nn.Parameter(torch.ones(4, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.same(self.norm(self.conv(x)))
        y += torch.zeros_like(y)
        y = F.dropout(F.conv2d(input=y, weight=self.weight), 0.5, self.training)
        return torch.cat([y.relu_(), y.view(y.shape)], 1)


def unit(net: nn.Module | None = None, last: str | None = "module") -> Unit:
    made = Unit(
        path="",
        rule_path="",
        rules=qconfig_rules(INT8),
        config=PrepareConfig(),
        quantize_input=True,
        quantize_output=True,
    )
    made.start(net or Net(), capture_root_call((image(),)).calls[""])
    run_passes(made, last)
    return made


def test_names_are_unique_and_summaries_are_sentences() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(s.summary[0].isupper() and s.summary.endswith(".") for s in PASSES)


def test_every_traced_graph_goes_through_the_first_rewrites_of_prepare() -> None:
    made = unit(last="sizes")
    assert NAMES[1:5] == ["trace", "operands", "in-place", "sizes"]
    assert str(trace(Net().eval(), (image(),))) == str(made.graph)
    raw = unit(last="trace")
    assert str(raw.graph) != str(made.graph)


@pytest.mark.parametrize("name", NAMES)
def test_running_stops_after_the_pass_that_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def noted(step: Pass) -> Pass:
        return Pass(
            step.name, step.summary, lambda unit: (ran.append(step.name), step.run(unit))[1]
        )

    monkeypatch.setattr("qatspec.prepare.passes.PASSES", tuple(map(noted, PASSES)))
    unit(last=name)
    assert ran == NAMES[: NAMES.index(name) + 1]


def _reads_later(made: Unit) -> None:
    first, *_, last = (n for n in made.graph.nodes if n.op.startswith("call_"))
    first.append(last)


def _same_name(made: Unit) -> None:
    first, second, *_ = made.graph.nodes
    second.name = first.name


def _no_target(made: Unit) -> None:
    del made.module.conv


def _no_parameter(made: Unit) -> None:
    del made.module.weight


def _no_output(made: Unit) -> None:
    made.graph.erase_node(list(made.graph.nodes)[-1])


def _quantized_twice(made: Unit) -> None:
    *_, last, output = made.graph.nodes
    assert last.op == "call_module"
    with made.graph.inserting_before(output):
        output.args = (made.graph.call_module(last.target, (last,)),)


def _fused_twice(made: Unit) -> None:
    made.groups[1].nodes.append(made.groups[0].anchor)


def _fused_and_gone(made: Unit) -> None:
    _no_output(made)
    made.graph.output(made.groups[0].last)
    made.graph.eliminate_dead_code()


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        (_reads_later, "not computed before it"),
        (_same_name, "two nodes have the name"),
        (_no_target, "names `conv`, which the module lacks"),
        (_no_parameter, "names `weight`, which the module lacks"),
        (_no_output, "the last node is not the output"),
        (_quantized_twice, "a second time"),
        (_fused_twice, "fused twice"),
        (_fused_and_gone, "no longer in the graph"),
    ],
)
def test_a_malformed_graph_stops_prepare_after_the_pass_that_left_it(
    corrupt: Callable[[Unit], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = unit(last="insert")
    assert problem(made) is None
    bad = Pass("bad", "Corrupt the graph.", corrupt)
    monkeypatch.setattr("qatspec.prepare.passes.PASSES", (bad,))
    with pytest.raises(InternalError, match=f"pass `bad` on `the model`: .*{words}"):
        run_passes(made)


def test_a_rewrite_of_a_pattern_that_leaves_a_malformed_graph_is_at_fault() -> None:
    made = unit(last="split")

    def rewrite(match: Match) -> None:
        match.nodes[0].replace_all_uses_with(match.nodes[0].args[0])
        match.unit.graph.erase_node(match.nodes[0])

    pattern = FusePattern(name="bad", summary="Lose a conv.", pattern=("conv2d",), rewrite=rewrite)
    with pytest.raises(ValueError, match="malformed graph: `conv` is fused, but no longer in"):
        fuse_by(made, [pattern])


def test_a_module_without_its_optional_parameters_goes_through_all_passes() -> None:
    made = unit(nn.InstanceNorm2d(3), last=None)
    assert problem(made) is None and made.decisions

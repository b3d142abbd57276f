"""What a march refuses, and in which words."""

import re
from pathlib import Path

import pytest
import torch

from qatspec.backend import assemble, verdict
from qatspec.backend.legalise import measure, refusals
from qatspec.diag import DiagnosticError, Span
from qatspec.ir import Op, Provenance
from qatspec.prepare import prepare, set_stage
from qatspec.stages.foresight import integer_refusals
from qatspec.types import Limit, OpSupport, Verdict
from qatspec.types.capabilities import MEASURES


def limited(target, kind, *limits, dtypes=("int8", "int32")):
    ops = dict(target().ops)
    ops[kind] = OpSupport(dtypes=dtypes, weights=("int8",), limits=limits)
    return target(ops=ops)


def conv_of(net, **options):
    made = net()
    x = made.input(8, 16, 16)
    return made.finish(made.conv(x, 8, **options))


@pytest.mark.parametrize(
    "limit,options,words",
    [
        (Limit(of="kernel", high=7), {"kernel": 9}, "kernel 9x9 is above 7"),
        (Limit(of="kernel", low=2), {"kernel": 1}, "kernel 1x1 is below 2"),
        (Limit(of="stride", one_of=(1, 2)), {"stride": 3}, "stride 3x3 is not one of 1, 2"),
        (
            Limit(of="dilation", power_of_two=True),
            {"dilation": 3},
            "dilation 3x3 is not a power of two",
        ),
        (
            Limit(of="kernel_volume", high=100),
            {"kernel": 5},
            "kernel volume 200 is above 100",
        ),
        (
            Limit(of="channels_in_per_group", high=3, unless_groups=1),
            {"groups": 2},
            "channels in per group 4 is above 3",
        ),
    ],
)
def test_limits(net, target, limit, options, words):
    program = conv_of(net, **options)
    answer = verdict(program.ops[0], program, limited(target, "conv", limit))
    assert not answer.ok
    assert words in answer.reason


def test_a_limit_that_other_ops_meet(net, target):
    limit = Limit(of="channels_in_per_group", high=3, unless_groups=1)
    program = conv_of(net)
    assert verdict(program.ops[0], program, limited(target, "conv", limit)).ok


def test_a_limit_of_numbers_that_an_op_has_none_of(net, target):
    """The weight of a linear layer has no height and width."""
    made = net()
    weight = made.weight(4, 8)
    program = made.finish(made.emit("linear", [made.input(8), weight]))
    limits = limited(target, "linear", Limit(of="kernel", low=1, high=7))
    assert verdict(program.ops[0], program, limits).ok


def test_a_limit_of_an_unknown_measure():
    with pytest.raises(ValueError, match="no op has the measure `kernal`; there are channels, ke"):
        Limit(of="kernal", high=7)


def test_the_guide_lists_every_measure():
    guide = (Path(__file__).parents[3] / "plugins/README.md").read_text("utf-8")
    for name, numbers in MEASURES.items():
        assert f"| `{name}` | {numbers} |" in guide


def test_every_measure_is_described_and_every_described_one_is_an_ops(net):
    made = net()
    x = made.conv(made.input(4, 8, 8), 4, dilation=2)
    total = made.requant(made.raw_conv(x, 4), x)
    area = made.emit("reduce_sum", [total], axes=(2, 3), keepdim=True)
    larger = made.emit("resize_nearest", [x], size=(16, 16))
    program = made.finish(area, larger)
    assert set().union(*(measure(op, program) for op in program.ops)) == MEASURES.keys()


def test_stride_before_a_fused_residual(net, target):
    limit = Limit(of="stride_with_residual", high=2)
    made = net()
    x = made.input(4, 12, 12)
    short = made.conv(x, 4, stride=3)
    program = made.finish(made.requant(made.raw_conv(x, 4, stride=3), short))
    march = limited(target, "conv", limit)
    answers = [verdict(op, program, march).ok for op in program.ops if op.kind == "conv"]
    assert answers == [True, False]


def test_all_refused_ops_are_reported_at_once_with_where_they_come_from(net, target):
    made = net()
    x = made.input(4, 16, 16)
    program = made.finish(made.conv(made.conv(x, 4, kernel=9), 4, kernel=11))
    march = limited(target, "conv", Limit(of="kernel", high=7))
    with pytest.raises(DiagnosticError) as caught:
        assemble(program, march)
    found = caught.value.diagnostics
    assert [d.code for d in found] == ["QS801", "QS801"]
    first = program.ops[0].origin
    assert first.module in found[0].message
    assert "kernel 9x9 is above 7" in found[0].message
    assert found[0].at == first.rule
    assert first.source in found[0].notes[0].text


def test_an_op_of_the_model_is_told_once_by_its_own_name():
    """Several integer ops, one softmax; two calls of one line, one report."""
    own = {"module": "head", "source": "net.py:9", "op": "softmax"}
    parts = ("exp_below_max", "divide", "divide", "exp_below_max")
    nodes = ("softmax", "softmax", "softmax_1", "softmax_1")
    answers = [
        (Op(kind=kind, inputs=(), output=f"y{i}", origin=Provenance(node=node, **own)), no(kind))
        for i, (kind, node) in enumerate(zip(parts, nodes, strict=True))
    ]
    found = refusals([*answers[:2], (answers[0][0], Verdict(True)), answers[3], answers[2]])
    assert [d.message for d in found] == ["`head` (softmax): no exp_below_max; no divide"]
    assert "`predict`" in found[0].help and "choose another march" in found[0].help
    assert [note.text for note in found[0].notes] == ["written at net.py:9"]
    line = Span("/models/net.py", 9, 1, 9, 9)
    (found,) = refusals(answers[:2], lambda place: line if place == "net.py:9" else None)
    assert found.span == line and not found.notes


def no(kind):
    return Verdict(False, f"no {kind}")


def test_a_kind_that_the_march_lacks(full, target):
    ops = {k: v for k, v in target().ops.items() if k != "resize_bilinear"}
    op = next(op for op in full.ops if op.kind == "resize_bilinear")
    answer = verdict(op, full, target(ops=ops))
    assert "has no resize_bilinear" in answer.reason


def test_a_dtype_that_the_march_lacks(net, target):
    made = net()
    x = made.input(4, 8, 8, dtype="int16")
    program = made.finish(made.raw_conv(x, 4))
    answer = verdict(program.ops[0], program, limited(target, "conv"))
    assert "conv of int16" in answer.reason


@pytest.mark.parametrize("kernel", [9, 3])
def test_all_that_the_march_lacks_is_told_at_once_and_the_advice_is_of_all(net, target, kernel):
    """Fewer bits alone would lead to the refusal of the kernel."""
    made = net()
    x = made.input(4, 12, 12, dtype="int16")
    program = made.finish(made.raw_conv(x, 4, kernel=kernel))
    answer = verdict(program.ops[0], program, limited(target, "conv", Limit(of="kernel", high=7)))
    assert "conv of int16" in answer.reason and "fewer bits" in answer.fix
    assert ("kernel 9x9 is above 7" in answer.reason) == (kernel == 9)
    assert answer.fix.endswith(", and change the module to fit the limit") == (kernel == 9)


@pytest.mark.parametrize(
    ("limit", "advice"),
    [
        (Limit(of="kernel", low=2, high=7), "make its kernel at least 2 and at most 7"),
        (Limit(of="stride", one_of=(2, 4)), "make its stride one of 2, 4"),
        (Limit(of="padding", high=0), "make its padding at most 0"),
    ],
)
def test_a_limit_says_what_is_within_it(net, target, limit, advice):
    made = net()
    program = made.finish(made.raw_conv(made.input(4, 12, 12), 4, kernel=9, padding=4))
    assert verdict(program.ops[0], program, limited(target, "conv", limit)).fix == advice


def test_verdict_agrees_with_compile(full, target):
    """For every op alone: refused by supports if and only if compile names it."""
    for op in full.ops:
        ops = {k: v for k, v in target().ops.items() if k != op.kind}
        march = target(ops=ops)
        refused = [o for o in full.ops if not verdict(o, full, march).ok]
        with pytest.raises(DiagnosticError) as caught:
            assemble(full, march)
        (found,) = caught.value.diagnostics
        more = re.findall(r"; here and at (\d+) more", found.message)
        assert 1 + sum(map(int, more)) == len(refused)


@pytest.mark.parametrize(
    ("size", "settings", "words"),
    [
        ((16, 16), {"align_corners": False}, ""),
        ((16, 16), {"align_corners": True}, "it aligns corners"),
        ((16, 12), {"align_corners": False}, "a size is not a multiple of the size before"),
        ((24, 24), {"align_corners": False}, "scale factor 3x3 is not a power of two"),
    ],
)
def test_a_resize_that_bernoulli2_cannot_do_is_told_in_words(size, settings, words):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x):
            resize = torch.nn.functional.interpolate
            return resize(self.conv(x), size=size, mode="bilinear", **settings)

    x = torch.randn(1, 3, 8, 8)
    prepared = prepare(Net(), (x,), qconfig="horizon_qat", march="bernoulli2", quantize_output=True)
    prepared.model(x)
    set_stage(prepared, "eval")
    told = [d.message for d in integer_refusals(prepared, "bernoulli2")]
    assert bool(told) == bool(words) and all(words in message for message in told), told

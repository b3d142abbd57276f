"""Where fake-quants stand: inputs, results, shared scales, floats, outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.graph import DecisionKind, Prepared
from qatspec.prepare import prepare, prepare_spec, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry
from tests.unit.prepare.conftest import INT8, image


class Net(nn.Module):
    """Two convs, and whatever the test wants around them."""

    def __init__(self, body: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.full((1, 4, 1, 1), 2.0))
        self.grid = nn.Parameter(torch.full((1, 4, 8, 8), 0.5))
        self.register_buffer("buffer", torch.full((2, 1, 8, 8), 0.5))
        self.dropout = nn.Dropout()
        self.body = body

    def smooth(self, x: Tensor) -> Tensor:
        """Without an integer form."""
        return torch.div(x, 0.1, rounding_mode="floor")

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _prepared(body: Callable[[Net, Tensor], Tensor], **options) -> Prepared:
    return prepare(Net(body), (image(),), qconfig=INT8, **options)


def _fake_quants(prepared: Prepared) -> list[str]:
    found = [n for n, m in prepared.model.named_modules() if isinstance(m, FakeQuantize)]
    suffix = "_activation_post_process_0"
    return [n.removesuffix(suffix) for n in found if n.endswith(suffix)]


def _calls(prepared: Prepared) -> list[str]:
    return [n.name for n in prepared.model.graph.nodes if n.op.startswith("call_")]


PASSIVE = {
    "max_pool": lambda m, x: F.max_pool2d(m.conv(x), 2),
    "nearest": lambda m, x: F.interpolate(m.conv(x), scale_factor=2),
    "reshape": lambda m, x: m.conv(x).reshape(2, 4, -1),
    "flatten": lambda m, x: m.conv(x).flatten(1),
    "permute": lambda m, x: m.conv(x).permute(0, 2, 3, 1),
    "slice": lambda m, x: m.conv(x)[:, 1:3],
    "pad": lambda m, x: F.pad(m.conv(x), (1, 1)),
    "dropout": lambda m, x: m.dropout(m.conv(x)),
    "relu after a quantized tensor": lambda m, x: F.relu(F.max_pool2d(m.conv(x), 2)),
    "chunk": lambda m, x: m.conv(x).chunk(2, 1)[0],
}


@pytest.mark.parametrize("name", PASSIVE)
def test_ops_that_move_numbers_share_the_scale(name: str) -> None:
    prepared = _prepared(PASSIVE[name])
    assert _fake_quants(prepared) == ["x", "conv"]
    assert any(d.reason == "shares conv's scale" for d in prepared.decisions.values())


OBSERVED = {
    "cat": lambda m, x: torch.cat([m.conv(x), m.last(m.conv(x))], 1),
    "stack": lambda m, x: torch.stack([m.conv(x), m.conv(x)]),
    "add": lambda m, x: m.conv(x) + F.max_pool2d(m.last(m.conv(x)), 1),
    "mul": lambda m, x: m.conv(x) * m.last(m.conv(x)),
    "avg_pool": lambda m, x: F.avg_pool2d(m.conv(x), 2),
    "adaptive": lambda m, x: F.adaptive_avg_pool2d(m.conv(x), 1),
    "mean": lambda m, x: m.conv(x).mean((2, 3)),
    "bilinear": lambda m, x: F.interpolate(m.conv(x), scale_factor=2, mode="bilinear"),
    "sigmoid": lambda m, x: m.conv(x).sigmoid(),
    "silu": lambda m, x: F.silu(m.conv(x)),
    "hardswish": lambda m, x: F.hardswish(m.conv(x)),
    "mul by a number": lambda m, x: m.conv(x) * 0.5,
    "relu6 after a quantized tensor": lambda m, x: F.relu6(F.max_pool2d(m.conv(x), 2)),
}


@pytest.mark.parametrize("name", OBSERVED)
def test_ops_that_compute_have_a_range_of_their_own(name: str) -> None:
    prepared = _prepared(OBSERVED[name])
    nodes = [n for n in prepared.model.graph.nodes if n.op == "output"]
    last = nodes[0].args[0]
    assert isinstance(prepared.model.get_submodule(last.target), FakeQuantize)
    assert last.args[0].name not in ("conv", "last")


def test_a_float_op_in_between_is_quantized_again_for_the_next_conv() -> None:
    prepared = _prepared(lambda m, x: m.last(m.smooth(m.conv(x))))
    assert _fake_quants(prepared) == ["x", "conv", "div", "last"]
    assert [w.code for w in prepared.warnings] == ["QS608"]
    smooth = prepared.decisions[":div"]
    assert smooth.kind is DecisionKind.UNSUPPORTED and smooth.cause.startswith("division")
    assert smooth.fake_quant and "a quantized op reads it" in smooth.reason


def test_a_float_op_behind_moves_is_quantized_before_them() -> None:
    prepared = _prepared(lambda m, x: m.last(m.smooth(m.conv(x)).flip(0).contiguous()))
    assert "last" in _fake_quants(prepared)


CONSTANTS = {
    "a sum": (lambda m, x: m.conv(x) + m.scale, ["scale", "add"]),
    "a sum with what is computed from parameters": (
        lambda m, x: m.conv(x) - m.scale.exp().view(1, 4, 1, 1), ["view", "sub"]
    ),
    "a map of numbers": (lambda m, x: m.conv(x) * m.grid, ["grid", "mul"]),
    "a buffer": (lambda m, x: torch.cat([m.conv(x), m.buffer], 1), ["buffer", "cat"]),
    "a factor a channel": (lambda m, x: m.conv(x) * m.scale, ["mul"]),
    "a factor a channel, shaped": (lambda m, x: m.scale.view(-1, 1, 1) * m.conv(x), ["mul"]),
    "one number": (lambda m, x: m.conv(x) + m.scale.mean(), ["add"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_parameters_and_buffers_as_operands(name: str) -> None:
    """Quantized like any operand, but where the integer op takes them in exactly."""
    body, expected = CONSTANTS[name]
    prepared = _prepared(body)
    assert _fake_quants(prepared) == ["x", "conv", *expected]
    assert {w.code for w in prepared.warnings} == {"QS506"}  # the parts that this body leaves out
    net, state = Net(body).eval(), prepared.model.state_dict()
    net.load_state_dict({key: state[key] for key in net.state_dict()})
    torch.testing.assert_close(prepared.model(image()), net(image()))
    set_stage(prepared, "qat")
    prepared.model(image()).sum().backward()
    read = [prepared.model.scale, prepared.model.grid]
    assert sum(p.grad is not None for p in read) == ("buffer" not in name)


def test_a_quantized_output_is_quantized_whatever_makes_it() -> None:
    prepared = _prepared(lambda m, x: m.smooth(m.conv(x)))
    assert _fake_quants(prepared)[-1] == "div"


def test_shape_arithmetic_is_left_alone() -> None:
    def body(m: Net, x: Tensor) -> Tensor:
        y = m.conv(x)
        return F.interpolate(m.last(y), size=(y.shape[2] * 2, y.shape[3] + 1))

    prepared = _prepared(body)
    assert _fake_quants(prepared) == ["x", "conv", "last"]
    assert not any("mul" in node or "getitem" in node for node in prepared.decisions)


def test_input_scale_is_fixed() -> None:
    prepared = _prepared(lambda m, x: m.conv(x), prepare={"input_scale": 1 / 128})
    fake_quant = prepared.model.x_activation_post_process_0
    prepared.model(image() * 100)
    assert fake_quant.scale.item() == 1 / 128 and prepared.input_scale == 1 / 128


def test_the_images_scale_is_that_of_what_takes_the_image(project) -> None:
    project.edit("{prepare: horizon, quantize_output: false}", "{modules: {stem: {}, head: {}}}")
    spec = project.load()
    model = registry().model("toy_net").build({"width": 8})
    prepared = prepare_spec(spec, "calibration", model)
    prepared.model(torch.ones(2, 3, 16, 16))
    inputs = [d for d in prepared.decisions.values() if d.op == "placeholder"]
    assert [d.kind for d in inputs] == [DecisionKind.FIXED, DecisionKind.OBSERVED]
    assert [d.reason for d in inputs] == ["input: fixed scale 0.0078125", "input: observed"]
    fixed, observed = (prepared.model.get_submodule(d.fake_quant) for d in inputs)
    assert fixed.scale.item() == prepared.input_scale == 1 / 128 != observed.scale.item()


def test_an_input_behind_moves_is_quantized_at_the_door() -> None:
    prepared = _prepared(lambda m, x: m.conv(F.pad(x, (1, 1))))
    assert _fake_quants(prepared) == ["x", "conv"]


def test_a_trusted_input_has_no_fake_quant() -> None:
    prepared = _prepared(lambda m, x: m.conv(x), quantize_input=False)
    assert _fake_quants(prepared) == ["conv"]


def test_a_tail_that_is_read_inside_too_is_quantized_for_its_readers() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y, self.last(y)

    prepared = prepare(Two(lambda m, x: x), (image(),), qconfig=INT8, quantize_output=False)
    prepared.model(image())
    set_stage(prepared, "eval")
    model = prepared.model
    assert model.conv_activation_post_process_0.disabled
    inner = model.conv_activation_post_process_1
    assert inner.fake_quant_on and inner.observed
    raw, _ = model(image())
    assert not torch.equal(raw, inner(raw))
    assert prepared.model.last_activation_post_process_0.disabled


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda m, x: m.conv(x).relu(), "`relu` is fused"),
        (lambda m, x: m.conv(x) + x[:, :1], "last op is `add`"),
        (lambda m, x: m.conv(x).sigmoid(), "last op is `sigmoid`"),
        (lambda m, x: m.conv(x).flatten(1), "last op is `flatten`"),
        (lambda m, x: x, "last op is `x`"),
    ],
)
def test_what_cannot_be_an_int32_tail_is_named(body, words: str) -> None:
    with pytest.raises(DiagnosticError, match=words) as caught:
        _prepared(body, quantize_output=False)
    assert caught.value.diagnostics[0].code == "QS604"


def test_decisions_point_at_the_models_code() -> None:
    prepared = _prepared(lambda m, x: m.conv(x))
    decision = prepared.decisions[":conv"]
    assert decision.source.startswith("test_insert.py:") or "/test_insert.py:" in decision.source
    assert decision.module == "conv" and decision.op == "conv2d"
    assert decision.fake_quant == "conv_activation_post_process_0"
    assert decision.weight is not None and decision.weight.ch_axis == 0


def test_nothing_is_quantized_twice_in_a_row() -> None:
    prepared = _prepared(lambda m, x: m.last(F.relu(F.max_pool2d(F.relu(m.conv(x)), 2))))
    assert _fake_quants(prepared) == ["x", "conv", "last"]
    assert _calls(prepared)[-1] == "last_activation_post_process_0"


@pytest.mark.parametrize(
    ("forward", "name", "kind", "cause"),
    [
        (lambda m, x: m.last(m.conv(x)), "conv", DecisionKind.OBSERVED, ""),
        (lambda m, x: m.last(F.max_pool2d(m.conv(x), 3)), "max_pool2d", DecisionKind.SHARED, ""),
        (lambda m, x: m.last(m.smooth(m.conv(x))), "div", DecisionKind.UNSUPPORTED, "division"),
        (lambda m, x: x.flatten(1), "flatten", DecisionKind.FLOAT_INPUT, "its input"),
    ],
)  # fmt: skip
def test_the_kind_of_a_decision_says_how_a_result_is_quantized(
    forward: Callable[[nn.Module, Tensor], Tensor], name: str, kind: DecisionKind, cause: str
) -> None:
    decision = _prepared(forward).decisions[f":{name}"]
    assert decision.kind is kind is DecisionKind(decision.kind.value)
    assert decision.cause.startswith(cause) and bool(decision.cause) is bool(cause)


def test_the_kind_of_an_output_in_int32_is_tail() -> None:
    prepared = _prepared(lambda m, x: m.last(m.conv(x)), quantize_output=False)
    kinds = {d.node: d.kind for d in prepared.decisions.values()}
    assert kinds == {
        ":x": DecisionKind.OBSERVED,
        ":conv": DecisionKind.OBSERVED,
        ":last": DecisionKind.TAIL,
    }

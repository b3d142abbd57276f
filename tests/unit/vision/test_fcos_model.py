"""The model as a whole: the task protocol, tracing, params."""

from typing import Any

import pytest
import torch
from qatspec_vision import params
from qatspec_vision.fcos.model import FCOS, build
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.api import DiagnosticError
from qatspec.schema import with_defaults

STAGE = {"kernel": 3, "repeats": 1, "channels": 16, "expand": 2, "stride": 2}
SMALL: dict[str, Any] = {
    "num_classes": 3,
    "backbone": {"blocks": [STAGE, {**STAGE, "repeats": 2}, STAGE], "stem": 8, "strides": [8, 16]},
    "neck": {"channels": 16, "stacks": 1, "levels": 3},
    "head": {"channels": 16, "convs": 1},
}
TARGETS = [
    {"boxes": torch.tensor([[4.0, 4, 40, 60]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def small() -> FCOS:
    torch.manual_seed(0)
    return build(with_defaults(params.FCOS, SMALL))


def test_fifteen_outputs_of_the_tutorials_net() -> None:
    with torch.device("meta"):
        outputs = build(with_defaults(params.FCOS, {"num_classes": 80}))(
            torch.empty(1, 3, 256, 256)
        )
    assert [[m.shape[1] for m in part] for part in outputs] == [[80] * 5, [4] * 5, [1] * 5]
    assert [m.shape[2] for m in outputs[0]] == [32, 16, 8, 4, 2]


def test_a_model_of_defaults_alone() -> None:
    with torch.device("meta"):
        model = build(with_defaults(params.FCOS, {"num_classes": 4}))
    assert model.strides == (8, 16, 32, 64, 128)
    assert model.weights == {"cls": 1.0, "reg": 1.0, "centerness": 1.0}
    decoder, targets = model.post_process, model.targets
    assert (decoder.score_threshold, decoder.nms_pre, decoder.max_detections) == (0.05, 1000, 100)
    assert (targets.topk, targets.giou_weight, targets.center_radius) == (10, 2.0, 2.5)


def test_the_printed_children_are_the_tutorials() -> None:
    names = [name for name, _ in small().named_children()]
    assert names == [
        "backbone", "neck", "head", "targets", "loss_cls", "loss_reg", "loss_centerness",
        "post_process",
    ]  # fmt: skip


class StructuredTracer(fx.Tracer):
    """Traces a module whose one argument is a list of tensors."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def create_args_for_root(self, *args: Any, **kwargs: Any) -> Any:
        function, arguments = super().create_args_for_root(*args, **kwargs)
        root, listed = arguments
        return function, [root, [listed[i] for i in range(self.count)]]


@pytest.mark.parametrize("training", [False, True])
def test_each_prepared_child_traces_alone(training: bool) -> None:
    model = small().train(training)
    x: Any = torch.randn(2, 3, 64, 64)
    for name in ("backbone", "neck", "head"):
        child = getattr(model, name)
        tracer = fx.Tracer() if name == "backbone" else StructuredTracer(len(x))
        traced = fx.GraphModule(child, tracer.trace(child))
        expected = child(x)
        for a, b in zip(pytree.tree_leaves(traced(x)), pytree.tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b)
        if name == "head":
            targets = [str(node.target) for node in traced.graph.nodes]
            assert targets.count("conv_centerness") == 3
            assert "conv_centerness_2" in [node.name for node in traced.graph.nodes]
            assert targets.count("cls_tower.convs.0.1") == 3
            assert targets.count("cls_tower.norms.0.1") == 1
        x = expected


def test_losses_are_finite_and_reach_every_parameter() -> None:
    model = small()
    losses = model.loss(model(torch.randn(2, 3, 64, 64)), TARGETS)
    assert list(losses) == ["cls", "reg", "centerness"]
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_batch_without_objects_trains() -> None:
    model = small()
    losses = model.loss(model(torch.randn(1, 3, 64, 64)), TARGETS[1:])
    assert losses["reg"].item() == losses["centerness"].item() == 0
    losses["cls"].backward()


def test_over_fits_one_picture() -> None:
    model = small()
    images = torch.randn(1, 3, 64, 64)
    boxes = torch.tensor([[4.0, 4, 40, 60], [30, 8, 60, 36]])
    target = [{"boxes": boxes, "labels": torch.tensor([1, 2])}]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = torch.stack(list(model.loss(model(images), target).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (found,) = model.predict(model(images))
    for box, label in zip(boxes, (1, 2), strict=True):
        best = found["boxes"][found["labels"] == label][0]
        torch.testing.assert_close(best, box, atol=4, rtol=0)


def test_labels_beyond_the_classes_are_told() -> None:
    model = small()
    target = [{"boxes": torch.tensor([[4.0, 4, 40, 60]]), "labels": torch.tensor([3])}]
    with pytest.raises(DiagnosticError) as caught:
        model.loss(model(torch.randn(1, 3, 64, 64)), target)
    assert caught.value.diagnostics[0].code == "QS914"
    assert caught.value.diagnostics[0].at == "/model/params/num_classes"


def test_every_schema_is_closed_and_described() -> None:
    def look(schema: Any, at: str) -> None:
        if not isinstance(schema, dict):
            return
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False, at
            for name, sub in schema["properties"].items():
                assert sub.get("description"), f"{at}.{name}"
                look(sub, f"{at}.{name}")
        look(schema.get("items"), at + "[]")

    for name in ("FCOS", "EFFICIENTNET", "COCO"):
        look(getattr(params, name), name)


def test_predictors_are_plain_convolutions() -> None:
    head = small().head
    for name in ("conv_cls", "conv_reg", "conv_centerness"):
        assert type(head.get_submodule(name)) is nn.Conv2d

"""YOLO as a whole: its size, the task protocol, and every march from float to integers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from qatspec_vision import params
from qatspec_vision.checks import check_yolo
from qatspec_vision.yolo.model import YOLO, build
from torch import Tensor
from torch.utils import _pytree as pytree

from qatspec.api import DiagnosticError, compile, export_qat_onnx, lower, to_onnx
from qatspec.schema import with_defaults
from tests.nets import settle
from tests.zoo.count import macs, params as count

NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def yolo(**given: Any) -> YOLO:
    torch.manual_seed(0)
    small = {"num_classes": 3, "width": 0.125, "strides": [8, 16], **given}
    return build(with_defaults(params.YOLO_MODEL, small))


def many_boxes() -> dict[str, Tensor]:
    """200 boxes, some of them equal, without area, or outside the picture."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(200, 2, generator=generator) * 100 - 20
    boxes = torch.cat([corner, corner + torch.rand(200, 2, generator=generator) * 40], 1)
    boxes[:5] = boxes[0]
    boxes[5:10, 2:] = boxes[5:10, :2]
    boxes[10:15, 2] = boxes[10:15, 0]
    return {"boxes": boxes, "labels": torch.randint(3, (200,), generator=generator)}


@pytest.mark.parametrize(
    ("width", "depth", "size", "millions", "giga_flops"),
    [(0.375, 0.33, 416, 5.06, 6.45), (0.5, 0.33, 640, 9.0, 26.8), (0.75, 0.67, 640, 25.3, 73.8)],
)
def test_published_sizes(
    width: float, depth: float, size: int, millions: float, giga_flops: float
) -> None:
    """YOLOX-tiny, -s and -m (Ge et al., 2021, table 3 and 4; 2 FLOPs a multiply-add). The stem here
    is a convolution of stride 2, which is cheaper than YOLOX's Focus."""
    with torch.device("meta"):
        model = yolo(num_classes=80, width=width, depth=depth, strides=[8, 16, 32])
        assert count(model) / 1e6 == pytest.approx(millions, rel=0.005)
        found = 2 * macs(model, (size, size)) / 1e9
    assert 0.96 * giga_flops < found < giga_flops


@pytest.mark.parametrize("form", ["giou", "ciou"])
@pytest.mark.parametrize(
    "targets",
    [[NO_BOXES, NO_BOXES], [many_boxes(), NO_BOXES], [many_boxes(), many_boxes()]],
    ids=["none", "some", "many"],
)
def test_losses_and_gradients_are_finite(targets: list[dict[str, Tensor]], form: str) -> None:
    model = yolo(loss={"box": form})
    losses = model.loss(model(torch.randn(2, 3, 64, 64)), targets)
    assert list(losses) == ["cls", "reg", "objectness"]
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    learns = any(len(target["labels"]) for target in targets)
    assert (losses["reg"].item() > 0) == (losses["cls"].item() > 0) == learns


def test_boxes_without_area_are_not_learnt() -> None:
    model = yolo()
    outputs = model(torch.randn(1, 3, 64, 64))
    boxes = torch.tensor([[20.0, 20, 20, 40], [30, 30, 30, 30], [40, 40, 30, 50]])
    flat = {"boxes": boxes, "labels": torch.tensor([0, 1, 2])}
    for name, loss in model.loss(outputs, [flat]).items():
        assert loss == model.loss(outputs, [NO_BOXES])[name]


def test_a_class_learns_how_well_the_box_fits() -> None:
    """By hand: one point, whose box is half of the object."""
    model = yolo(target={"topk": 1, "center_radius": 0.5})
    classes = [torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)]
    raw = [torch.zeros(1, 4, 1, 1), torch.full((1, 4, 1, 1), 3.0)]
    objectness = [torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)]
    target = {"boxes": torch.tensor([[0.0, 0, 8, 16]]), "labels": torch.tensor([1])}
    losses = model.loss((classes, raw, objectness), [target])
    assert losses["cls"] == pytest.approx(3 * np.log(2), rel=1e-5)
    assert losses["objectness"] == pytest.approx(2 * np.log(2), rel=1e-5)
    assert losses["reg"] == pytest.approx(5 * (1 - 0.5), rel=1e-5)
    classes[0] = torch.logit(torch.tensor([1e-6, 0.5, 1e-6])).reshape(1, 3, 1, 1).requires_grad_()
    model.loss((classes, raw, objectness), [target])["cls"].backward()
    torch.testing.assert_close(classes[0].grad.flatten(), torch.zeros(3), atol=1e-5, rtol=0)


def test_over_fits_one_picture() -> None:
    model = yolo()
    images = torch.randn(1, 3, 64, 64)
    boxes = torch.tensor([[4.0, 4, 40, 60], [30, 8, 60, 36]])
    target = [{"boxes": boxes, "labels": torch.tensor([1, 2])}]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
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
    model = yolo()
    target = [{"boxes": torch.tensor([[4.0, 4, 40, 60]]), "labels": torch.tensor([3])}]
    with pytest.raises(DiagnosticError) as caught:
        model.loss(model(torch.randn(1, 3, 64, 64)), target)
    assert caught.value.diagnostics[0].code == "QS914"


@pytest.mark.parametrize(
    ("march", "activation"),
    [
        ("bernoulli2", "relu"),
        ("bernoulli2", "relu6"),
        ("bayes", "relu"),
        ("bayes", "silu"),
        ("onnxruntime", "relu"),
        ("onnxruntime", "silu"),
    ],
)
def test_every_march_from_float_to_integers(march: str, activation: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = yolo(activation=activation).eval()
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    prepared = settle(model, x, march=march)
    with torch.no_grad():
        floats, fakes = (pytree.tree_leaves(m(x)) for m in (model, prepared.model))
    program = lower(prepared, (x,))
    assert [port.dtype for port in program.outputs] == ["int32"] * 6
    ints = program.quantize(x.numpy())
    results = program.run(*ints)
    for real, fake, wanted in zip(program.dequantize(results), fakes, floats, strict=True):
        assert (fake - wanted).norm() < 0.1 * wanted.norm()
        assert (torch.from_numpy(real) - fake).norm() < 0.1 * fake.norm()

    to_onnx(program, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "net.onnx", providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_inputs()]
    for found, wanted in zip(
        session.run(None, dict(zip(names, ints, strict=True))), results, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    options = {"opt": "exact"} if march == "onnxruntime" else {}
    for found, wanted in zip(compile(program, march, **options).run(*ints), results, strict=True):
        np.testing.assert_array_equal(found, wanted)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))


@pytest.mark.parametrize(
    ("strides", "size", "at", "words"),
    [
        ([8, 32], (64, 64), "/model/params/strides", "twice the one before"),
        ([6, 12], (60, 60), "/model/params/strides", "powers of two"),
        ([8, 16, 32], (48, 64), "/model/input/size", "multiples of 32"),
    ],
)
def test_what_cannot_be_built(
    strides: list[int], size: tuple[int, int], at: str, words: str
) -> None:
    spec: Any = SimpleNamespace(
        model=SimpleNamespace(type="yolo", plugin="vision", params={"strides": strides}),
        input=SimpleNamespace(at="/model/input", size=size), data={},
    )  # fmt: skip
    (finding,) = check_yolo(spec)
    assert (finding.at, finding.severity) == (at, "error")
    assert words in finding.message

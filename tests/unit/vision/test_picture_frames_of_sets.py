"""Data sets use pictures in the frame of their annotations, and label maps as they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qatspec_vision.data.cityscapes_layout import CLASSES
from qatspec_vision.data.coco import CocoDetection
from qatspec_vision.data.layout import Layout

from qatspec.api import Diagnostic, DiagnosticError, ModelInput
from qatspec.train.loader import Loader
from tests.unit.vision.filled import augment, open_cityscapes

RNG = np.random.default_rng(0)


def coco(tmp_path: Path, orientation: int, size: tuple[Any, Any], box: list[int]) -> CocoDetection:
    """One stored picture of 40 x 20, white in its box [20, 0, 20, 10], with a rotation tag."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10, 20:] = 255
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    entry = {"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}
    content = {
        "images": [entry],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
        "categories": [{"id": 1, "name": "white"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    fed = ModelInput(size=(40, 40), mean=0.0, std=255.0)
    return CocoDetection(Layout(tmp_path / "a.json", tmp_path), fed=fed, augment=augment())


@pytest.mark.parametrize(
    ("orientation", "size", "box"),
    [
        (1, (40, 20), [20, 0, 20, 10]),
        (3, (40, 20), [0, 10, 20, 10]),
        (6, (20, 40), [10, 20, 10, 20]),
        (6, (40, 20), [20, 0, 20, 10]),
        (8, (20, 40), [0, 0, 10, 20]),
        (8, (None, None), [0, 0, 10, 20]),
    ],
)
def test_boxes_lie_on_what_they_annotate(
    orientation: int, size: tuple[Any, Any], box: list[int], tmp_path: Path
) -> None:
    data = coco(tmp_path, orientation, size, box)
    sample = data.sample(0, RNG)
    x1, y1, x2, y2 = sample.target["boxes"][0].astype(int)
    white = sample.image[0] > 0.5
    assert white[y1:y2, x1:x2].mean() > 0.9
    assert white.sum() == pytest.approx((y2 - y1) * (x2 - x1), rel=0.15)
    restored = data.restore(sample.meta, sample.target["boxes"])[0]
    assert restored.tolist() == [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def test_an_ignored_rotation_tag_is_told_once(tmp_path: Path) -> None:
    told: list[Diagnostic] = []
    data = coco(tmp_path, 6, (40, 20), [20, 0, 20, 10])
    for _ in Loader(dataset=data, batch_size=1, seed=0, warn=told.append).ordered():
        pass
    assert [d.code for d in told] == ["QS951"]
    assert coco(tmp_path, 6, (20, 40), [20, 0, 20, 10]).sample(0, RNG).warnings == ()


def test_a_picture_of_another_size_is_left_out_by_name(tmp_path: Path) -> None:
    data = coco(tmp_path, 1, (80, 40), [20, 0, 20, 10])
    with pytest.raises(DiagnosticError) as caught:
        data.sample(0, RNG)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS950"
    assert "`a.png` has 40 x 20 pixels" in diagnostic.message


def cityscapes(root: Path, label_image: Image.Image, **params: Any) -> Any:
    for part in ("leftImg8bit", "gtFine"):
        (root / part / "val/town").mkdir(parents=True, exist_ok=True)
    kind = params.get("labels", "labelIds")
    Image.new("RGB", label_image.size).save(root / "leftImg8bit/val/town/a_leftImg8bit.png")
    label_image.save(root / f"gtFine/val/town/a_gtFine_{kind}.png")
    size = [label_image.height, label_image.width]
    return open_cityscapes({"root": ".", "split": "val", "size": size, **params}, root / "c", root)


def label_map(mode: str, label: int) -> Image.Image:
    values = np.full((20, 40), label, np.uint16 if mode == "I;16" else np.uint8)
    if mode != "P":
        return Image.fromarray(values)
    image = Image.fromarray(values, mode="L").convert("P")
    image.putdata([label] * 800)
    image.putpalette([255 - n // 3 for n in range(768)])
    return image


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize(("kind", "label"), [("labelIds", 23), ("labelTrainIds", 10)])
def test_labels_are_the_same_in_every_mode(
    mode: str, kind: str, label: int, tmp_path: Path
) -> None:
    data = cityscapes(tmp_path, label_map(mode, label), labels=kind)
    mask = data.sample(0, RNG).target["mask"]
    assert set(mask.flat) == {CLASSES.index("sky")}


def test_instance_numbers_are_no_labels(tmp_path: Path) -> None:
    data = cityscapes(tmp_path, label_map("I;16", 26001))
    with pytest.raises(DiagnosticError) as caught:
        data.sample(0, RNG)
    assert "26001" in caught.value.diagnostics[0].message


def test_a_label_map_of_another_size(tmp_path: Path) -> None:
    data = cityscapes(tmp_path, label_map("L", 7))
    Image.new("RGB", (20, 20)).save(tmp_path / "leftImg8bit/val/town/a_leftImg8bit.png")
    with pytest.raises(DiagnosticError) as caught:
        data.sample(0, RNG)
    assert caught.value.diagnostics[0].code == "QS950"

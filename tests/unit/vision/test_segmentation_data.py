"""Cityscapes' layout, label ids, placement of masks, and mIoU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qatspec_vision.data.cityscapes_layout import CLASSES, LABEL_IDS, fingerprint
from qatspec_vision.data.iou import Confusion
from qatspec_vision.data.segmentation import SegmentationSet

from qatspec.api import DiagnosticError
from tests.unit.vision.filled import cityscapes, open_cityscapes

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures 20 x 40: the left half road (id 7), the right half sky (id 23), one row of what
    does not count (id 0)."""
    for index in range(2):
        for part in ("leftImg8bit", "gtFine"):
            (tmp_path / part / "val" / "town").mkdir(parents=True, exist_ok=True)
        labels = np.full((20, 40), 7, np.uint8)
        labels[:, 20:] = 23
        labels[0] = 0
        pixels = RNG.integers(0, 256, (20, 40, 3), dtype=np.uint8)
        name = f"town_{index:06d}_000019"
        Image.fromarray(pixels).save(tmp_path / "leftImg8bit/val/town" / f"{name}_leftImg8bit.png")
        Image.fromarray(labels).save(tmp_path / "gtFine/val/town" / f"{name}_gtFine_labelIds.png")
    return tmp_path


def opened(root: Path, **params: Any) -> SegmentationSet:
    given = {"root": ".", "split": "val", "size": [20, 40], **params}
    return open_cityscapes(given, root / "cache", root)


def test_label_ids_become_train_ids(root: Path) -> None:
    data = opened(root)
    sample = data.sample(0, RNG)
    assert len(data) == 2
    assert sample.image.shape == (3, 20, 40)
    mask = sample.target["mask"]
    assert (mask.shape, mask.dtype) == ((20, 40), np.int64)
    assert set(mask[0]) == {255}
    assert set(mask[1:, :20].flat) == {CLASSES.index("road")}
    assert set(mask[1:, 20:].flat) == {CLASSES.index("sky")}
    assert len(LABEL_IDS) == len(CLASSES) == 19


def test_train_ids_are_taken_as_they_are(root: Path) -> None:
    for path in (root / "gtFine").rglob("*_labelIds.png"):
        renamed = path.with_name(path.name.replace("labelIds", "labelTrainIds"))
        Image.fromarray(np.full((20, 40), 3, np.uint8)).save(renamed)
    assert set(opened(root, labels="labelTrainIds").sample(0, RNG).target["mask"].flat) == {3}


def test_masks_move_as_pictures_do(root: Path) -> None:
    """Of a picture whose colour is its class, the mask stays the class wherever it is cropped,
    flipped and scaled; padding does not count."""
    for index, path in enumerate(sorted((root / "leftImg8bit").rglob("*.png"))):
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, 20:] = 255
        Image.fromarray(pixels).save(path)
        assert index < 2
    augment = {"flip": 0.5, "scale": [0.5, 3.0]}
    data = opened(root, augment=augment, size=[16, 24])
    flips = 0
    for seed in range(30):
        sample = data.sample(0, np.random.default_rng(seed))
        mask, light = sample.target["mask"], sample.image[0]
        sky, road = mask == CLASSES.index("sky"), mask == CLASSES.index("road")
        assert sky.any() or road.any()
        # away from the seam, which bilinear resizing blurs
        inner = (np.abs(light) > 0.98) & (mask != 255)
        assert (light[inner & sky] > 0).all()
        assert (light[inner & road] < 0).all()
        assert (np.abs(light[(mask == 255).all(axis=1)]) <= 1).all()
        columns = np.where(sky.any(axis=0))[0]
        if road.any() and sky.any():
            flips += columns[0] < np.where(road.any(axis=0))[0][0]
    assert 5 < flips < 25


def test_a_perfect_prediction_at_another_size(root: Path) -> None:
    """Judged at the picture's own size: half as large an input loses nothing but at seams."""
    data = opened(root, size=[10, 20])
    predictions = []
    for index in range(len(data)):
        sample = data.sample(index, RNG)
        mask = np.full((10, 20), CLASSES.index("road"), np.uint8)
        mask[:, 10:] = CLASSES.index("sky")
        predictions.append((sample.meta, {"mask": mask}))
    assert data.evaluate(predictions) == {
        "mIoU": 100.0, "pixel_accuracy": 100.0, "IoU_road": 100.0, "IoU_sky": 100.0
    }  # fmt: skip


def test_padding_is_cut_off_again(root: Path) -> None:
    data = opened(root, size=[32, 32])  # the picture takes 16 rows
    sample = data.sample(0, RNG)
    assert set(sample.target["mask"][16:].flat) == {255}
    mask = np.zeros((32, 32), np.uint8)
    mask[16:] = 9
    restored = data.restore_mask(sample.meta, mask)
    assert restored.shape == (20, 40)
    assert set(restored.flat) == {0}


def test_iou_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 255]])
    predicted = np.array([[0, 1, 1, 1], [2, 0, 0, 4]])
    confusion = Confusion(5)
    confusion.add(truth, predicted)
    found = confusion.metrics("abcde")
    # a: 1 of 3 (one missed, one too many); b: 2 of 3; c: 1 of 2; d and e do not occur
    assert found["IoU_a"] == pytest.approx(100 / 3)
    assert found["IoU_b"] == pytest.approx(200 / 3)
    assert found["IoU_c"] == pytest.approx(50)
    assert set(found) == {"mIoU", "pixel_accuracy", "IoU_a", "IoU_b", "IoU_c"}
    assert found["mIoU"] == pytest.approx(50)
    assert found["pixel_accuracy"] == pytest.approx(100 * 4 / 6)


def test_a_class_that_does_not_occur_is_wrong_where_it_is_predicted() -> None:
    confusion = Confusion(3)
    confusion.add(np.zeros((2, 2), int), np.array([[0, 0], [2, 200]]))
    assert confusion.metrics("abc") == {"mIoU": 50.0, "pixel_accuracy": 50.0, "IoU_a": 50.0}


def test_missing_parts(root: Path) -> None:
    next((root / "gtFine").rglob("*_labelIds.png")).unlink()
    for params, words in (
        ({}, "1 of 2 pictures have no labels"),
        ({"split": "test"}, "no such folder"),
        ({"labels": "labelTrainIds"}, "2 of 2 pictures have no labels"),
    ):
        with pytest.raises(DiagnosticError, match=words) as caught:
            opened(root, **params)
        assert caught.value.diagnostics[0].code == "QS910"


def test_the_fingerprint_changes_with_the_files(root: Path) -> None:
    params = cityscapes({"root": ".", "split": "val"})
    before = fingerprint(params, root)
    assert before == fingerprint(params, root)
    path = next((root / "gtFine").rglob("*.png"))
    path.write_bytes(path.read_bytes() + b"\0")
    assert fingerprint(params, root) != before

"""Made-up sets open as the real ones do, say so, and are the same every time."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.vision.filled import open_cityscapes, open_coco, open_imagefolder

SETS = [(open_coco, "labels"), (open_cityscapes, "mask"), (open_imagefolder, "label")]


@pytest.mark.parametrize(("open_set", "target"), SETS)
def test_a_made_up_set(open_set, target: str, tmp_path: Path) -> None:
    params = {"root": "/nowhere", "split": "val", "size": 64, "made_up": 3}
    first, again = (open_set(params, tmp_path / name, tmp_path) for name in "ab")
    assert len(first) == 3
    assert [d.code for d in first.diagnostics] == ["QS916"]
    assert "/nowhere" in first.diagnostics[0].message
    for index in range(3):
        one, other = (s.sample(index, np.random.default_rng(0)) for s in (first, again))
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.target[target], other.target[target])
    labels = [first.sample(i, np.random.default_rng(0)).target[target] for i in range(3)]
    drawn = {int(v) for label in labels for v in np.asarray(label).flat} - {255}
    assert drawn == ({0, 1} if target == "mask" else {0})  # a model may have no other class


def test_splits_differ(tmp_path: Path) -> None:
    images = [
        open_coco(
            {"root": ".", "split": split, "size": 64, "made_up": 1}, tmp_path, tmp_path
        ).sample(0, np.random.default_rng(0)).image
        for split in ("train", "deep/val")
    ]  # fmt: skip
    assert not np.array_equal(*images)


def test_boxes_and_masks_lie_on_what_is_drawn(tmp_path: Path) -> None:
    data = open_coco({"root": ".", "split": "val", "size": [96, 128], "made_up": 4}, tmp_path,
                     tmp_path)  # fmt: skip
    sample = data.sample(0, np.random.default_rng(0))
    x1, y1, x2, y2 = sample.target["boxes"][-1].astype(int)  # the one that nothing covers
    inside = sample.image[int(sample.target["labels"][-1]), y1:y2, x1:x2]
    assert inside.min() > 0.95

"""ImageNet's layout, tables of pictures and classes, crops, and top-k."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qatspec_vision.data.imagefolder import ImageFolder
from qatspec_vision.data.imagefolder_layout import fingerprint

from qatspec.api import DiagnosticError
from tests.unit.vision.filled import imagefolder, open_imagefolder

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(("n01", "n02", "n01")):
        folder = tmp_path / "val" / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((30, 40, 3), 60 * index, np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.JPEG")
    return tmp_path


def opened(root: Path, **params: Any) -> ImageFolder:
    return open_imagefolder({"root": ".", "split": "val", "size": 16, **params}, root, root)


def test_folders_are_classes(root: Path) -> None:
    data = opened(root)
    assert list(data.classes) == ["n01", "n02"]
    samples = [data.sample(index, RNG) for index in range(len(data))]
    assert [int(s.target["label"]) for s in samples] == [0, 0, 1]
    assert samples[0].image.shape == (3, 16, 16)
    levels = [round(float(s.image.mean()) * 128 + 128) for s in samples]
    assert levels == [0, 120, 60]


def test_a_table_of_pictures_and_classes(root: Path) -> None:
    (root / "some.csv").write_text("file,class_index,wnid,name\nval/n02/1.JPEG,3,n02,newt\n")
    data = opened(root, index="some.csv")
    assert list(data.classes) == ["0", "1", "2", "newt"]
    assert int(data.sample(0, RNG).target["label"]) == 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("name\nx\n", "QS912"),
        ("file,class_index\n", "QS912"),
        ("file,class_index\na.jpg,one\n", "QS912"),
        ("file,class_index\na.jpg,-1\n", "QS912"),
        ("file,class_index\na.jpg,1\n", "QS910"),
    ],
)
def test_tables_that_are_none(root: Path, text: str, code: str) -> None:
    (root / "some.csv").write_text(text)
    with pytest.raises(DiagnosticError) as caught:
        opened(root, index="some.csv")
    assert caught.value.diagnostics[0].code == code


def test_missing_folders(root: Path) -> None:
    (root / "empty").mkdir()
    for split in ("train", "empty"):
        with pytest.raises(DiagnosticError) as caught:
            opened(root, split=split)
        assert caught.value.diagnostics[0].code == "QS910"


def test_the_centre_crop(root: Path) -> None:
    """A white frame around black: at crop 0.5 the frame is gone, at 1 the short side shows it."""
    pixels = np.full((40, 60, 3), 255, np.uint8)
    pixels[8:32, 8:52] = 0
    Image.fromarray(pixels).save(root / "val/n02/1.JPEG", quality=100, subsampling=0)
    label = 2
    inner, outer = (opened(root, crop=crop).sample(label, RNG).image for crop in (0.5, 1.0))
    assert inner.max() < -0.9
    assert outer[:, 0].min() > 0.9
    assert outer[:, 8, 0].max() < -0.9  # the long side is cut


def test_random_crops_stay_inside_and_differ(root: Path) -> None:
    gradient = np.tile(np.arange(40, dtype=np.uint8)[None, :, None] * 6, (30, 1, 3))
    Image.fromarray(gradient).save(root / "val/n02/1.JPEG", quality=100)
    data = opened(root, augment={"flip": 0.5, "area": [0.1, 0.5]})
    images = [data.sample(2, np.random.default_rng(seed)).image for seed in range(12)]
    widths = [abs(float(i[0, 8, -1] - i[0, 8, 0])) for i in images]
    assert max(widths) < 0.9 * (39 * 6 / 128)
    assert len({round(w, 3) for w in widths}) > 6
    slopes = {bool(i[0, 8, -1] > i[0, 8, 0]) for i in images}
    assert slopes == {True, False}
    again = data.sample(2, np.random.default_rng(3)).image
    np.testing.assert_array_equal(again, images[3])


def test_top_one_and_top_five() -> None:
    scores = np.linspace(0, 1, 10)
    data = ImageFolder.__new__(ImageFolder)
    metas = [{"label": label} for label in (9, 8, 5, 4)]
    found = data.evaluate([(meta, {"scores": scores}) for meta in metas])
    assert found == {"top1": 25.0, "top5": 75.0}


def test_equal_scores_are_ranked_as_argmax_ranks_them() -> None:
    data = ImageFolder.__new__(ImageFolder)
    flat = {"scores": np.zeros(10)}
    assert data.evaluate([({"label": 0}, flat)])["top1"] == 100.0
    assert data.evaluate([({"label": 1}, flat)])["top1"] == 0.0
    assert data.evaluate([({"label": 5}, flat)])["top5"] == 0.0


def test_the_fingerprint_knows_labels_of_a_table(root: Path) -> None:
    prints = []
    for label in (0, 1):
        (root / "some.csv").write_text(f"file,class_index\nval/n02/1.JPEG,{label}\n")
        prints.append(fingerprint(imagefolder({"root": ".", "index": "some.csv"}), root))
    assert prints[0] != prints[1]

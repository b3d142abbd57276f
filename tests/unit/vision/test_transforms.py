"""Transforms of torchvision as random changes: params are checked, randomness is the index's, boxes
and masks move with their picture, and the version is part of the digest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qatspec.api import DiagnosticError
from qatspec.registry import registry
from qatspec.schema import check, with_defaults
from tests import sets


def is_there() -> bool:
    try:
        from torchvision.transforms import v2

        return bool(v2)
    except Exception:  # noqa: BLE001  a build for another torch raises anything
        return False


needs_torchvision = pytest.mark.skipif(
    not is_there(), reason="torchvision is not installed, or does not fit the installed torch"
)
SETS: dict[str, Any] = {
    "yolo_detection": sets.yolo, "mask_segmentation": sets.masks,
    "imagefolder_classification": sets.imagefolder,
}  # fmt: skip


def params_of(name: str, transforms: Any) -> dict[str, Any]:
    schema = registry().dataset(name).params
    given = {"root": ".", "split": "train", "size": [32, 48], "mean": 0, "std": 1}
    given["augment"] = {"torchvision": transforms} if transforms else {}
    assert check(given, schema) == []
    return dict(with_defaults(schema, given))


def opened(name: str, root: Path, transforms: Any) -> Any:
    SETS[name](root)
    return registry().dataset(name).open(params_of(name, transforms), root / "cache", root)


@pytest.fixture(params=list(SETS))
def name(request: Any) -> str:
    return str(request.param)


@needs_torchvision
def test_randomness_is_of_the_index_alone(name: str, tmp_path: Path) -> None:
    changes = [{"RandomAffine": {"degrees": 20}}, {"ColorJitter": {"brightness": 0.5}}]
    data = opened(name, tmp_path, changes)
    first, second, other = (data.sample(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.image, second.image)
    assert not np.array_equal(first.image, other.image)
    for key in first.target:
        assert np.array_equal(first.target[key], second.target[key])


@needs_torchvision
@pytest.mark.parametrize("change", [{"RandomHorizontalFlip": {"p": 1.0}},
                                    {"RandomAffine": {"degrees": 0, "translate": [0.4, 0.4]}},
                                    {"RandomPerspective": {"p": 1.0}}])  # fmt: skip
def test_labels_move_with_the_picture(change: Any, tmp_path: Path) -> None:
    boxes = opened("yolo_detection", tmp_path / "a", [change])
    masks = opened("mask_segmentation", tmp_path / "b", [change])
    for index in range(4):
        for seed in range(5):
            sample = boxes.sample(index, np.random.default_rng(seed))
            for box, label in zip(sample.target["boxes"], sample.target["labels"], strict=True):
                x1, y1, x2, y2 = box.round().astype(int)
                inside = sample.image[:, y1:y2, x1:x2].reshape(3, -1)
                bright = inside[:, inside.max(0) > 150]
                assert bright.size and bright.mean(1).argmax() == label
            sample = masks.sample(index, np.random.default_rng(seed))
            mask = sample.target["mask"]
            assert mask.dtype == np.int64 and set(np.unique(mask)) <= {0, 1, 2, 3, 255}
            for label in set(np.unique(mask)) - {0, 255}:
                assert sample.image[:, mask == label].mean(1).argmax() == label - 1


@needs_torchvision
def test_what_leaves_the_picture_is_no_target_and_does_not_count(tmp_path: Path) -> None:
    away = [{"RandomAffine": {"degrees": 0, "translate": [0.99, 0.99]}}]
    data = opened("yolo_detection", tmp_path / "a", away)
    counts = [len(data.sample(0, np.random.default_rng(s)).target["boxes"]) for s in range(20)]
    assert 0 in counts
    data = opened("mask_segmentation", tmp_path / "b", away)
    assert 255 in data.sample(0, np.random.default_rng(1)).target["mask"]


@needs_torchvision
def test_transforms_inside_transforms_and_names_of_interpolation(tmp_path: Path) -> None:
    nested = [
        {"Grayscale": {"num_output_channels": 3}},
        {"RandomApply": {"p": 1.0, "transforms": [{"RandomInvert": {"p": 1.0}}]}},
        {"RandomRotation": {"degrees": 5, "interpolation": "bilinear"}},
    ]
    nested[0] = {"Grayscale": {"num_output_channels": 3}}
    sample = opened("imagefolder_classification", tmp_path, nested).sample(
        0, np.random.default_rng(0)
    )
    assert np.allclose(sample.image[0], sample.image[1])


@needs_torchvision
@pytest.mark.parametrize(
    ("transforms", "words", "help_"),
    [
        (["ColorJiter"], "no transform `ColorJiter`", "`ColorJitter`"),
        (["functional"], "no transform", ""),
        ([{"ColorJitter": {"brightnes": 1}}], "no param `brightnes`", "`brightness`"),
        ([{"ColorJitter": {"brightness": -1}}], "does not build `ColorJitter`", ""),
        ([{"RandomRotation": {}}], "does not build `RandomRotation`", ""),
        ([{"Resize": {"size": [8, 8]}}], "turn a picture", "size"),
        ([{"RandomRotation": {"degrees": 5, "interpolation": "cubical"}}], "cubical", ""),
    ],
)
def test_mistakes_are_told_when_the_set_is_opened(
    transforms: Any, words: str, help_: str, tmp_path: Path
) -> None:
    with pytest.raises(DiagnosticError) as caught:
        opened("imagefolder_classification", tmp_path, transforms)
    (found,) = caught.value.diagnostics
    assert found.code == "QS917" and words in found.message and help_ in (found.help or "")


def test_without_the_package(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Told when the plan is made, before anything runs; sets that name no transform need none."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    assert opened(name, tmp_path, []).sample(0, np.random.default_rng(0)).image.shape[0] == 3
    with pytest.raises(DiagnosticError, match="QS915"):
        opened(name, tmp_path, ["RandomErasing"])


@pytest.mark.parametrize(
    ("code", "way"),
    [
        ("raise RuntimeError('operator inner::nms does not exist')", "release of inner that fits"),
        ("raise ImportError('undefined symbol')", "release of inner that fits"),
        ("import torch.not_there", "release of inner that fits"),
        ("import not_there.at_all", "pip install not_there"),
    ],
)
def test_a_package_whose_import_fails_in_one_that_it_imports(
    code: str, way: str, tmp_path: Path, monkeypatch: Any
) -> None:
    from qatspec_vision import installed

    (tmp_path / "outer.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text(f"{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DiagnosticError, match="QS917: the installed `outer` cannot be") as caught:
        installed.library("outer", "models of outer")
    assert way in (caught.value.diagnostics[0].help or "")


def test_the_version_is_part_of_the_digest(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    from qatspec_vision.data import files

    SETS[name](tmp_path)
    fingerprint = registry().dataset(name).fingerprint
    found = []
    for release in ("0.29.1", "0.30.0"):
        monkeypatch.setattr(files, "version", lambda package, release=release: release)
        found.append([fingerprint(params_of(name, t), tmp_path) for t in ([], ["RandomErasing"])])
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]

    def missing(package: str) -> str:
        raise files.PackageNotFoundError(package)

    monkeypatch.setattr(files, "version", missing)
    with pytest.raises(DiagnosticError, match="QS915"):
        fingerprint(params_of(name, ["RandomErasing"]), tmp_path)

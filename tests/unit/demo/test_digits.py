"""The digits set: real scans, disjoint splits, boxes that hold their digit, same bytes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qatspec_demo import digits as digits_module, identity, scans as scans_module
from qatspec_demo.digits import open_digits
from qatspec_demo.draw import CONTRAST, LUMA, draw_picture
from qatspec_demo.scans import load_scans

from qatspec.api import DiagnosticError
from qatspec.registry import registry
from qatspec.schema import with_defaults

sklearn_datasets = pytest.importorskip("sklearn.datasets")


def params(**more: Any) -> dict[str, Any]:
    given = {
        "split": "train", "images": 6, "picture": 96, "digits": [2, 5], "height": [14, 40],
        "seed": 0, "size": 96, **more,
    }  # fmt: skip
    return dict(with_defaults(registry().dataset("digits_detection").params, given))


def test_splits_share_no_scan_and_lose_none() -> None:
    train, val = load_scans("train"), load_scans("val")
    assert len(train.labels) + len(val.labels) == 1797
    # Equal scans may occur twice in the source, so identity is by place, told by the ink's sum.
    every = np.concatenate([train.ink, val.ink]).sum()
    assert every * 16 == pytest.approx(sklearn_datasets.load_digits().images.sum(), rel=1e-5)
    shared = {s.tobytes() for s in train.ink} & {s.tobytes() for s in val.ink}
    assert not shared
    assert sorted(np.unique(val.labels)) == list(range(10))
    assert 0.18 < len(val.labels) / 1797 < 0.2


def test_scans_are_those_that_scikit_learn_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its file, and where that lies elsewhere by its function."""
    pixels, labels = scans_module._stored()
    digits = sklearn_datasets.load_digits()
    assert np.array_equal(pixels, digits.images)
    assert np.array_equal(labels, digits.target)
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert np.array_equal(scans_module._stored()[0], pixels)


def test_boxes_hold_their_digit_and_keep_apart() -> None:
    scans = load_scans("train")
    heights = []
    for seed in range(20):
        picture = draw_picture(scans, 128, (4, 9), (14, 56), np.random.default_rng(seed))
        assert len(picture.boxes) == len(picture.labels) >= 1
        for index, (x, y, w, h) in enumerate(picture.boxes):
            heights.append(h)
            assert x >= 0
            assert y >= 0
            assert x + w <= 128
            assert y + h <= 128
            for bx, by, bw, bh in picture.boxes[:index]:
                apart = x + w < bx or bx + bw < x or y + h < by or by + bh < y
                assert apart
            inside = picture.pixels[y : y + h, x : x + w] @ LUMA
            assert np.ptp(inside) > 0.8 * CONTRAST, "a digit stands out from what is behind it"
    assert min(heights) < 18
    assert max(heights) > 45
    assert set(heights) <= set(range(14, 57))


def test_digits_are_light_on_dark_and_dark_on_light() -> None:
    scans = load_scans("train")
    signs = set()
    for seed in range(10):
        picture = draw_picture(scans, 128, (3, 6), (24, 40), np.random.default_rng(seed))
        luma = picture.pixels @ LUMA
        around = float(np.median(luma))
        for x, y, w, h in picture.boxes:
            box = luma[y : y + h, x : x + w]
            extreme = box.flat[np.abs(box - around).argmax()]
            signs.add(np.sign(extreme - around))
    assert signs == {-1.0, 1.0}


def digest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_built_once_and_the_same_each_time(tmp_path: Path) -> None:
    data = open_digits(params(), tmp_path / "one", tmp_path)
    assert len(data) == 6
    assert list(data.classes) == [str(digit) for digit in range(10)]
    (folder,) = (tmp_path / "one").iterdir()
    first = digest(folder)
    assert len(first) == 7
    stamp = (folder / "annotations.json").stat().st_mtime_ns
    open_digits(params(), tmp_path / "one", tmp_path)
    assert (folder / "annotations.json").stat().st_mtime_ns == stamp
    open_digits(params(), tmp_path / "two", tmp_path)
    assert digest(next((tmp_path / "two").iterdir())) == first


def test_processes_draw_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_digits(params(images=7), tmp_path / "one", tmp_path)
    monkeypatch.setattr(digits_module, "_PICTURES_A_PROCESS", 2)
    monkeypatch.setattr(digits_module, "_PICTURES_A_CALL", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    open_digits(params(images=7), tmp_path / "three", tmp_path)
    one, three = (digest(next((tmp_path / name).iterdir())) for name in ("one", "three"))
    assert one == three


def test_more_pictures_begin_with_the_same(tmp_path: Path) -> None:
    few = open_digits(params(images=2), tmp_path, tmp_path)
    more = open_digits(params(images=4), tmp_path, tmp_path)
    rng = np.random.default_rng(0)
    assert np.array_equal(few.sample(1, rng).image, more.sample(1, rng).image)


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "val"}, {"digits": [4, 5]}])
def test_other_params_draw_other_pictures(tmp_path: Path, change: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    plain = open_digits(params(), tmp_path, tmp_path).sample(0, rng).image
    other = open_digits(params(**change), tmp_path, tmp_path).sample(0, rng).image
    assert not np.array_equal(plain, other)


def test_a_build_that_breaks_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qatspec_demo.digits as digits

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits, "draw_picture", full_disk)
    with pytest.raises(OSError, match="No space"):
        open_digits(params(), tmp_path / "cache", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_fingerprint_is_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = identity.fingerprint(params(), tmp_path)
    assert plain == identity.fingerprint(params(augment={"flip": 1.0}, size=64), tmp_path / "x")
    assert plain != identity.fingerprint(params(seed=1), tmp_path)
    monkeypatch.setattr(identity, "version", lambda name: "99")
    assert plain != identity.fingerprint(params(), tmp_path)


def test_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise identity.PackageNotFoundError(name)

    monkeypatch.setattr(identity, "version", absent)
    with pytest.raises(DiagnosticError) as caught:
        open_digits(params(), tmp_path, tmp_path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS915"
    assert "qatspec[demo]" in str(diagnostic.help)

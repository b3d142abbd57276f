"""The COCO loader on sets written by the test: targets, augmentation, metric, bad input."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qatspec_vision.data.coco import CocoDetection
from qatspec_vision.data.layout import Layout, fingerprint, locate

from qatspec.api import DiagnosticError
from tests.unit.vision.filled import coco, open_coco

RNG = np.random.default_rng(0)


def annotation(image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def write_set(root: Path, split: str = "tiny", **changes: Any) -> Path:
    """Two pictures, 40x20 (red left half, blue right half) and 30x30 (green); categories 3, 7."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    halves = np.zeros((20, 40, 3), np.uint8)
    halves[:, :20, 0] = halves[:, 20:, 2] = 255
    Image.fromarray(halves).save(root / split / "a.png")
    Image.new("RGB", (30, 30), (0, 255, 0)).save(root / split / "b.png")
    content = {
        "images": [{"id": 5, "file_name": "b.png"}, {"id": 2, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            annotation(2, 7, [20, 5, 10, 10], id=0),
            annotation(2, 3, [0, 0, 8, 4], id=1, iscrowd=1),
            annotation(5, 3, [3, 6, 12, 9], id=2),
        ],
        **changes,
    }
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content))
    return path


def params(**more: Any) -> dict[str, Any]:
    return coco({"root": "set", "split": "tiny", "size": [40, 80], **more})


def open_set(tmp_path: Path, **more: Any) -> CocoDetection:
    return open_coco(params(**more), tmp_path / "cache", tmp_path)


def code_of(error: pytest.ExceptionInfo[DiagnosticError]) -> str:
    return error.value.diagnostics[0].code


def test_sample_fits_the_picture_at_the_top_left(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path)
    assert list(data.classes) == ["cat", "dog"]
    assert len(data) == 2

    wide = data.sample(0, RNG)
    assert wide.image.shape == (3, 40, 80)
    assert wide.image.dtype == np.float32
    assert wide.target["boxes"].tolist() == [[40, 10, 60, 30]]
    assert wide.target["boxes"].dtype == np.float32
    assert wide.target["labels"].tolist() == [1]
    assert wide.meta["id"] == 2

    square = data.sample(1, RNG)
    assert square.meta["scale_x"] == pytest.approx(40 / 30)
    assert np.all(square.image[:, :, 41:] == 0), "padding is the mean"
    assert square.image[1, 20, 20] == (255 - 128) / 128
    assert square.image[0, 20, 20] == -1


def test_formats(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    yuv = open_set(tmp_path, format="yuv444").sample(1, RNG).image[:, 20, 20] * 128 + 128
    assert yuv.tolist() == pytest.approx([149.7, 43.5, 21.2], abs=1)  # BT.601 of pure green
    gray = open_set(tmp_path, format="gray", mean=0, std=255).sample(1, RNG).image
    assert gray.shape == (1, 40, 80)
    assert gray[0, 20, 20] == pytest.approx(149.7 / 255, abs=0.01)


def test_size_may_be_one_number(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    assert open_set(tmp_path, size=24).sample(0, RNG).image.shape == (3, 24, 24)


def test_limit(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path, limit=1)
    assert len(data) == 1
    assert data.sample(0, RNG).meta["id"] == 2


def test_randomness_comes_from_the_generator_alone(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    augment = {"flip": 0.5, "scale": [0.5, 2.0], "hsv": [0.1, 0.3, 0.3]}
    data = open_set(tmp_path, augment=augment)
    first, again = (data.sample(0, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert first.meta == again.meta
    others = [data.sample(0, np.random.default_rng(s)).meta["scale_x"] for s in range(5)]
    assert len(set(others)) == 5


@pytest.mark.parametrize("seed", range(8))
def test_boxes_stay_on_their_object(tmp_path: Path, seed: int) -> None:
    write_set(tmp_path / "set", annotations=[annotation(2, 7, [20, 0, 20, 20])])
    data = open_set(tmp_path, augment={"flip": 0.5, "scale": [0.6, 1.6]})
    sample = data.sample(0, np.random.default_rng(seed))
    blue = sample.image[2] > 0.8
    for left, top, right, bottom in sample.target["boxes"].round().astype(int):
        inside = np.zeros_like(blue)
        inside[top:bottom, left:right] = True
        assert blue[top + 2 : bottom - 2, left + 2 : right - 2].all()
        assert (blue & ~inside).sum() <= 2 * (blue.shape[0] + blue.shape[1])


@pytest.mark.parametrize("seed", range(8))
def test_restore_undoes_the_augmentation(tmp_path: Path, seed: int) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path, augment={"flip": 0.5, "scale": [0.5, 0.9]})
    sample = data.sample(0, np.random.default_rng(seed))
    restored = data.restore(sample.meta, sample.target["boxes"])
    np.testing.assert_allclose(restored, [[20, 5, 30, 15]], atol=1e-4)


def test_hsv_changes_colour_and_keeps_place(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    plain = open_set(tmp_path).sample(0, RNG)
    other = open_set(tmp_path, augment={"hsv": [0.5, 0.5, 0.5]}).sample(0, np.random.default_rng(1))
    assert not np.array_equal(plain.image, other.image)
    assert np.array_equal(plain.target["boxes"], other.target["boxes"])
    edge = np.abs(np.diff(other.image, axis=2)).sum((0, 1))
    assert abs(int(edge.argmax()) - 39) <= 1


def test_cropped_objects_are_dropped_when_little_is_left() -> None:
    from qatspec_vision.data.augment import place_boxes

    from qatspec.api import Placement

    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], np.float32)
    clipped, seen = place_boxes(boxes, (20, 20), Placement(1.0, 1.0, -7, 0))
    assert seen.tolist() == [False, True]
    assert clipped[1].tolist() == [0, 0, 8, 10]


#: The changes of a set whose params say nothing of them.
NOTHING = {"flip": 0, "scale": [1, 1], "hsv": [0, 0, 0], "mosaic": 0, "mixup": 0}


def test_defaults_of_augment_change_nothing(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    plain, explicit = open_set(tmp_path), open_set(tmp_path, augment=dict(NOTHING))
    assert np.array_equal(plain.sample(0, RNG).image, explicit.sample(0, RNG).image)


def perfect(data: CocoDetection) -> list[tuple[Any, Any]]:
    pairs = []
    for index in range(len(data)):
        sample = data.sample(index, RNG)
        scores = np.full(len(sample.target["labels"]), 0.9, np.float32)
        pairs.append((sample.meta, {**sample.target, "scores": scores}))
    return pairs


def test_truth_scores_100_and_nothing_0(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path)
    metrics = data.evaluate(perfect(data))
    assert metrics["AP"] == pytest.approx(100)
    assert metrics["AP50"] == pytest.approx(100)
    assert "AP_large" not in metrics, "the set has no large object"
    empty = {k: v[:0] for k, v in perfect(data)[0][1].items()}
    assert data.evaluate([(meta, empty) for meta, _ in perfect(data)])["AP"] == 0


def test_a_wrong_label_and_a_shifted_box_cost(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path)
    swapped = [(m, {**p, "labels": 1 - p["labels"]}) for m, p in perfect(data)]
    assert data.evaluate(swapped)["AP50"] == 0
    shifted = [(m, {**p, "boxes": p["boxes"] + [4, 0, 4, 0]}) for m, p in perfect(data)]
    metrics = data.evaluate(shifted)
    assert metrics["AP50"] == pytest.approx(100)
    assert 0 < metrics["AP"] < 100


def test_only_predicted_pictures_count(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path)
    assert data.evaluate(perfect(data)[:1])["AP"] == pytest.approx(100)


def test_evaluation_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path)
    data.evaluate(perfect(data))
    assert capsys.readouterr().out == ""


def test_read_is_a_sample_without_targets(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    data = open_set(tmp_path, augment={"flip": 1.0})
    read = data.read(tmp_path / "set" / "tiny" / "a.png")
    assert np.array_equal(read.image, open_set(tmp_path).sample(0, RNG).image)
    assert read.target == {}


def test_unusable_annotations_are_left_out_and_told(tmp_path: Path) -> None:
    bad = [
        annotation(2, 7, [1, 1, 0, 5]),
        annotation(2, 99, [1, 1, 5, 5]),
        annotation(77, 7, [1, 1, 5, 5]),
        annotation(2, 7, [1, 1, "wide", 5]),
        annotation(2, 7, [1, 1]),
    ]
    write_set(tmp_path / "set", annotations=[annotation(2, 7, [20, 5, 10, 10]), *bad])
    data = open_set(tmp_path)
    assert [len(data.sample(i, RNG).target["labels"]) for i in range(2)] == [1, 0]
    (warning,) = data.diagnostics
    assert (warning.code, warning.severity) == ("QS913", "warning")
    assert warning.message.startswith("5 annotations are omitted")
    assert data.evaluate(perfect(data))["AP"] == pytest.approx(100)


def test_damaged_picture(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    picture = tmp_path / "set" / "tiny" / "b.png"
    whole = picture.read_bytes()
    data = open_set(tmp_path)
    for content in (b"", b"not a picture", whole[: len(whole) // 2]):
        picture.write_bytes(content)
        with pytest.raises(DiagnosticError) as caught:
            data.sample(1, RNG)
        assert code_of(caught) == "QS911"
        assert caught.value.diagnostics[0].span is not None
    assert data.sample(0, RNG).image.shape == (3, 40, 80)


def test_missing_parts(tmp_path: Path) -> None:
    for message in ("no such file", "no such folder", "1 of 2 pictures"):
        with pytest.raises(DiagnosticError, match=message) as caught:
            open_set(tmp_path)
        assert code_of(caught) == "QS910"
        if message == "no such file":
            write_set(tmp_path / "set")
            (tmp_path / "set" / "tiny").rename(tmp_path / "elsewhere")
        elif message == "no such folder":
            (tmp_path / "elsewhere").rename(tmp_path / "set" / "tiny")
            (tmp_path / "set" / "tiny" / "a.png").unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a COCO detection file"),
        ("[]", "does not start with"),
        ('{"images": []}', "`annotations` is missing"),
        ('{"images": [], "annotations": [], "categories": []}', "`images` is empty"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 1\) has no `file_name`",
        ),
        ('{"images": [7], "annotations": [], "categories": []}', r"images\[0\] is 7"),
    ],
)
def test_malformed_annotations(tmp_path: Path, text: str, message: str) -> None:
    write_set(tmp_path / "set").write_text(text)
    with pytest.raises(DiagnosticError, match=message) as caught:
        open_set(tmp_path)
    assert code_of(caught) == "QS912"


def test_annotations_and_images_can_lie_elsewhere(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "set" / "tiny").rename(tmp_path / "set" / "pictures")
    layout = locate(params(images="pictures"), tmp_path)
    assert layout == Layout(
        tmp_path / "set" / "annotations" / "instances_tiny.json", tmp_path / "set" / "pictures"
    )


def test_fingerprint_sees_content_and_not_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for base in (one, two):
        write_set(base / "set")
    known = [fingerprint(params(), one)]
    assert fingerprint(params(), two) == known[0]
    (two / "set" / "tiny" / "notes.txt").write_text("no picture of the set")
    assert fingerprint(params(), two) == known[0]

    picture = two / "set" / "tiny" / "b.png"
    table = two / "set" / "annotations" / "instances_tiny.json"
    for change in (
        lambda: flip_a_bit(picture),
        lambda: picture.unlink(),
        lambda: table.write_text(table.read_text() + " "),
    ):
        change()
        known.append(fingerprint(params(), two))
    assert len(set(known)) == len(known)


def flip_a_bit(path: Path) -> None:
    """Keep name, size and mtime."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_set_without_objects_is_told_of_and_measured(tmp_path: Path) -> None:
    write_set(tmp_path / "set", annotations=[])
    data = open_set(tmp_path)
    (warning,) = data.diagnostics
    assert (warning.code, warning.severity) == ("QS928", "warning")
    sample = data.sample(0, RNG)
    assert sample.target["boxes"].shape == (0, 4)
    metrics = data.evaluate(perfect(data))
    assert (metrics["AP"], metrics["AP50"]) == (0, 0)


@pytest.mark.parametrize("format_", ["rgb", "yuv444"])
def test_a_fixed_scale_of_1_128_makes_integers_of_pixels(tmp_path: Path, format_: str) -> None:
    """image / (1/128) is pixel - 128: what the chip is fed, without rounding."""
    write_set(tmp_path / "set")
    pixels = np.asarray(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8))
    )
    Image.fromarray(pixels).save(tmp_path / "set" / "tiny" / "a.png")
    image = open_set(tmp_path, format=format_).sample(0, RNG).image
    mode = {"rgb": "RGB", "yuv444": "YCbCr"}[format_]
    expected = np.asarray(Image.fromarray(pixels).convert(mode), np.int64).transpose(2, 0, 1) - 128
    np.testing.assert_array_equal(image / np.float32(1 / 128), expected)


def test_a_truncated_jpeg_costs_one_picture_of_a_run(tmp_path: Path) -> None:
    from qatspec.train.loader import Loader

    write_set(
        tmp_path / "set",
        images=[{"id": n, "file_name": f"{n}.jpg"} for n in range(4)],
        annotations=[annotation(n, 7, [5, 5, 10, 10]) for n in range(4)],
    )
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(noise).save(tmp_path / "set" / "tiny" / f"{number}.jpg")
    damaged = tmp_path / "set" / "tiny" / "2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    told: list[Any] = []
    loader = Loader(open_set(tmp_path), batch_size=2, seed=0, warn=told.append)
    assert [m["id"] for b in loader.ordered() for m in b.metas] == [0, 1, 3]
    assert [m["id"] for b in loader.shuffled(0) for m in b.metas].count(3) == 2
    assert {(d.code, d.severity, Path(d.span.file).name) for d in told} == {
        ("QS911", "warning", "2.jpg")
    }
    assert loader.dataset.evaluate(found(loader))["AP"] == pytest.approx(100)


def found(loader: Any) -> list[tuple[Any, Any]]:
    return [
        (m, {**{k: v.numpy() for k, v in t.items()}, "scores": np.ones(len(t["labels"]))})
        for b in loader.ordered()
        for m, t in zip(b.metas, b.targets, strict=True)
    ]

"""Mosaic and mixup: boxes stay on their objects, and all chance comes from the generator."""

import numpy as np
import pytest
from PIL import Image
from qatspec_vision.data.mosaic import Scene, mixup, mosaic

from qatspec.api import ModelInput
from qatspec.train.loader import Loader
from tests.unit.vision.filled import augment as augment_of, open_coco

SIZE = (60, 80)
MIXED = {"flip": 0.5, "scale": [0.5, 2.0], "mosaic": 0.5, "mixup": 0.5}


def scene(colour: tuple[int, int, int], label: int) -> Scene:
    """A black picture, 40 x 30, with one rectangle."""
    image = Image.new("RGB", (40, 30))
    image.paste(colour, (10, 5, 30, 20))
    return Scene(image, np.array([[10, 5, 30, 20]], np.float32), np.array([label]))


COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


@pytest.mark.parametrize("seed", range(10))
def test_boxes_lie_on_their_objects(seed: int) -> None:
    scenes = [scene(colour, label) for label, colour in enumerate(COLOURS)]
    made = mosaic(scenes, ModelInput(size=SIZE), (0.5, 2.0), np.random.default_rng(seed))
    pixels = np.asarray(made.image).astype(int)
    assert pixels.shape == (*SIZE, 3)
    assert len(made.boxes) == len(made.labels) > 0
    for (x1, y1, x2, y2), label in zip(made.boxes.round().astype(int), made.labels, strict=True):
        own = np.abs(pixels - COLOURS[label]).sum(2) < 60
        assert own[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all()
        own[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
        assert not own.any(), "and nothing of it lies outside"


def test_four_pictures_meet_in_reading_order() -> None:
    whole = [
        Scene(Image.new("RGB", (80, 60), c), np.empty((0, 4), np.float32), np.empty(0, np.int64))
        for c in COLOURS
    ]
    pixels = np.asarray(
        mosaic(whole, ModelInput(size=SIZE, mean=0.0), (2.0, 2.0), np.random.default_rng(0)).image
    )
    corners = [tuple(pixels[y, x]) for y in (0, -1) for x in (0, -1)]
    assert corners == list(COLOURS)
    rows, columns = (np.flatnonzero(np.diff(line, axis=0).any(1)) for line in
                     (pixels[:, 0].astype(int), pixels[0].astype(int)))  # fmt: skip
    assert len(rows) == len(columns) == 1
    assert 0.25 * 60 - 1 <= rows[0] <= 0.75 * 60 and 0.25 * 80 - 1 <= columns[0] <= 0.75 * 80


def test_mixup_keeps_the_boxes_of_both() -> None:
    made = mixup(scene(COLOURS[0], 0), scene(COLOURS[2], 2), np.random.default_rng(0))
    assert made.labels.tolist() == [0, 2]
    red, green, blue = np.asarray(made.image)[10, 20]
    assert 0 < red < 255 and green == 0 and abs(int(red) + int(blue) - 255) <= 1


def opened(tmp_path, **augment):
    params = {"root": ".", "split": "val", "size": list(SIZE), "made_up": 7, "augment": augment}
    return open_coco(params, tmp_path, tmp_path)


def bytes_of(batches):
    return [
        (b.inputs[0].numpy().tobytes(), [{k: v.tolist() for k, v in t.items()} for t in b.targets])
        for b in batches
    ]


def test_workers_never_change_a_byte(tmp_path) -> None:
    one, two = (
        Loader(opened(tmp_path, **MIXED), batch_size=3, seed=1, workers=workers)
        for workers in (0, 2)
    )
    for epoch in (0, 1):
        assert bytes_of(one.shuffled(epoch)) == bytes_of(two.shuffled(epoch))
    assert bytes_of(one.shuffled(0)) != bytes_of(one.shuffled(1))


def test_both_rest_in_the_last_epochs(tmp_path) -> None:
    mixed = Loader(opened(tmp_path, **MIXED, mixed_epochs=2), batch_size=7, seed=1)
    plain = Loader(opened(tmp_path, flip=0.5, scale=[0.5, 2.0]), batch_size=7, seed=1)
    same = [bytes_of(mixed.shuffled(e)) == bytes_of(plain.shuffled(e)) for e in range(4)]
    assert same == [False, False, True, True]
    assert bytes_of(mixed.shuffled(0)) != bytes_of(plain.shuffled(0)), "and it can go back"


def test_a_set_takes_what_the_spec_says(tmp_path) -> None:
    given = {**MIXED, "mixed_epochs": 5}
    augment = augment_of(**given)
    assert (augment.mosaic, augment.mixup, augment.mixed_epochs) == (0.5, 0.5, 5)
    assert augment.at(4) == augment and augment.at(5).mosaic == augment.at(5).mixup == 0.0
    assert augment.at(5).flip == 0.5

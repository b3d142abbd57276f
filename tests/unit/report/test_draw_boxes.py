"""Boxes of a detector are drawn whatever the order of their corners."""

import numpy as np
from PIL import Image

from qatspec.report.draw import draw_boxes


def test_a_box_whose_corners_are_swapped_is_the_same_frame():
    def drawn(box):
        found = {"boxes": np.array([box]), "scores": np.array([0.9]), "labels": np.array([0])}
        image = draw_boxes(Image.new("RGB", (64, 48)), found, ["a"], 0.3)
        return np.asarray(image)

    swapped, ordered = drawn([40.0, 40.0, 10.0, 30.0]), drawn([10.0, 30.0, 40.0, 40.0])
    assert swapped[40, 10:41].any(axis=1).all()
    assert np.array_equal(swapped[40, 10:41], ordered[40, 10:41])

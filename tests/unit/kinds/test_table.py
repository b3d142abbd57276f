"""The table of integer kinds: complete, self-contained, and documented by itself."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from qatspec.kinds import KINDS, Trait
from qatspec.kinds.reference import page
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.referee import interpreter, resizes


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_step_and_onnx_form_are_functions_of_the_kinds_own_folder(kind):
    folder = kind.infer.__module__.rpartition(".")[0]
    for reference in (kind.step, kind.onnx):
        assert reference.target.startswith(folder + "."), reference.target
        assert callable(reference.resolve())


def test_the_referee_defines_every_kind_and_no_other():
    assert set(KINDS) == set(interpreter._EVALUATE) | set(interpreter._WITH_LOWEST)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_on_the_reference_page(kind):
    assert f"`{kind.name}`" in page()
    for attribute in kind.attributes:
        assert f"`{attribute}`" in page()


def test_moves_keep_the_interval_of_what_they_move():
    """A trait is a claim about the kind: moves compute no integer that was not there."""
    for kind in KINDS.values():
        if Trait.MOVES in kind.traits:
            assert "-> same" in kind.operands


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 33])
@pytest.mark.parametrize("out", [1, 2, 5, 16, 31])
def test_resizes_read_the_referees_pixels(size, out):
    assert np.array_equal(nearest_index(size, out), resizes.nearest(size, out))
    for corners in (False, True):
        for bits in (1, 8, 11, 12):
            taps = bilinear_taps(size, out, corners, bits)
            for own, referee in zip(taps, resizes.bilinear(size, out, corners, bits), strict=True):
                assert np.array_equal(own, referee)


def test_the_table_loads_neither_torch_nor_onnx():
    code = (
        "import sys, qatspec.kinds, qatspec.referee; "
        "print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

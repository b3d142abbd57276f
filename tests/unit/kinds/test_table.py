"""The table of integer kinds: complete, self-contained, and documented by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qatspec.kinds import KINDS, Trait
from qatspec.kinds.reference import page
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.program import ProgramBuilder
from qatspec.referee import interpret, interpreter, resizes

ROOT = Path(__file__).parents[3]


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


def test_the_reference_page_is_fresh():
    """Else: python -m qatspec.kinds.reference > docs/kinds.md."""
    assert (ROOT / "docs" / "kinds.md").read_text("utf-8") == page()


COMMUTING = {
    "concat": (2, {"axis": 1}),
    "reshape": (1, {"shape": (6, 4)}),
    "transpose": (1, {"perm": (0, 2, 1, 3)}),
    "slice": (1, {"axis": 2, "start": 1, "stop": 3, "step": 1}),
    "resize_nearest": (1, {"size": (5, 3)}),
    "reduce_max": (1, {"axes": (2,), "keepdim": False}),
}


@pytest.mark.parametrize("name", [k.name for k in KINDS.values() if Trait.COMMUTES in k.traits])
def test_a_kind_that_commutes_gives_its_result_with_the_number_added(name):
    count, attributes = COMMUTING[name]
    builder = ProgramBuilder(name)
    names = [builder.input(f"x{i}", "int8", (2, 3, 4), scale=1.0) for i in range(count)]
    program = builder.finish(
        [builder.emit(name, names, name="y", scale=np.ones(1, np.float32), **attributes)]
    )
    generator = np.random.default_rng(0)
    images = [generator.integers(-100, 100, (2, 2, 3, 4)).astype(np.int8) for _ in names]
    (before,) = interpret(program, *images)
    (after,) = interpret(program, *(x + np.int8(20) for x in images))
    assert np.array_equal(after, before + 20)


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

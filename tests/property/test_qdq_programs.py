"""Random programs as Q/DQ: each layer is one integer away at most."""

from __future__ import annotations

import pytest

from qatspec.api import layer_exactness
from tests.unit.export.test_real import layers_of

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("uint8", [True, False])
def test_random_programs(uint8, unsigned, random_program, tmp_path):
    for seed in range(15):
        program, x = random_program(seed, unsigned=uint8)
        found = layer_exactness(program, [[x]], layers_of(program, tmp_path, unsigned))
        assert all(layer.max_lsb <= 1 for layer in found.values()), seed

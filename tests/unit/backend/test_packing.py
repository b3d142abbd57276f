"""Integers in memory and back."""

import numpy as np
import pytest

from qatspec.backend.packing import (
    box_index,
    features_bytes,
    features_view,
    pack_constant,
    packed_layout,
    unpack_constant,
)
from qatspec.backend.region import Box, full_box
from qatspec.ir import Value


@pytest.mark.parametrize("shape", [(13, 5, 3, 3), (8, 4, 1, 1), (10, 1, 5, 5), (9, 7), (11,)])
def test_constants_unpack_to_themselves(target, shape):
    array = np.random.default_rng(0).integers(-128, 128, shape)
    packed = packed_layout("w", array, 32, target())
    data = pack_constant(array, packed)
    assert len(data) == packed.size
    for start, stop in ((0, shape[0]), (8, shape[0]), (3, 6)):
        offset, size = packed.span(start, stop)
        part = data[offset - 32 : offset - 32 + size]
        assert np.array_equal(unpack_constant(part, packed, start, stop), array[start:stop])


@pytest.mark.parametrize("groups", [1, 3])
def test_weights_with_inputs_first_are_cut_by_outputs(target, groups):
    array = np.random.default_rng(0).integers(-128, 128, (6, 8, 2, 2))  # 3 groups: 24 outputs
    packed = packed_layout("w", array, 0, target(), turned=groups)
    data = pack_constant(array, packed)
    for first, stop in ((0, groups), (groups - 1, groups)):
        cut = (8 * first, 8 * stop) if groups > 1 else (3, 7)
        offset, size = packed.span(*cut)
        part = unpack_constant(data[offset : offset + size], packed, *cut)
        wanted = array[2 * first : 2 * stop] if groups > 1 else array[:, 3:7]
        assert np.array_equal(part, wanted)


def test_weights_lie_in_blocks_of_output_and_input_channels(target):
    array = np.arange(16 * 8).reshape(16, 8, 1, 1).astype(np.int8)
    data = np.frombuffer(pack_constant(array, packed_layout("w", array, 0, target())), np.int8)
    assert data[:4].tolist() == array[0, :4, 0, 0].tolist()
    assert data[4:8].tolist() == array[1, :4, 0, 0].tolist()
    assert data[32:36].tolist() == array[0, 4:8, 0, 0].tolist()
    assert data[64:68].tolist() == array[8, :4, 0, 0].tolist()


@pytest.mark.parametrize(
    "high,dtype", [(127, "int8"), (128, "int16"), (40000, "int32"), (1 << 40, "int64")]
)
def test_constants_are_stored_as_narrow_as_they_are(target, high, dtype):
    assert packed_layout("m", np.array([0, high]), 0, target()).dtype == dtype


def test_rows_are_padded_to_8_and_channels_to_4(target):
    value = Value(name="x", dtype="int8", shape=(3, 5, 6))
    assert features_bytes(value, full_box(value.shape), target()) == 4 * 5 * 8
    vector = Value(name="v", dtype="int16", shape=(10,))
    assert features_bytes(vector, full_box(vector.shape), target()) == 32  # 12 x 2, in lines of 16


def test_a_part_is_written_where_the_whole_has_it(target):
    value = Value(name="x", dtype="int8", shape=(7, 6, 5))
    full = full_box(value.shape)
    memory = np.zeros(4096, np.uint8)
    view = features_view(memory, 64, value, full, target())
    array = np.random.default_rng(0).integers(-128, 128, value.shape, np.int8)
    view[box_index(value, full, full, target())] = array
    box = Box(3, 6, 2, 5)
    assert np.array_equal(view[box_index(value, box, full, target())], array[3:6, 2:5])
    with pytest.raises(ValueError, match="is not inside"):
        box_index(value, full, box, target())
    with pytest.raises(ValueError, match="is past"):
        features_view(memory, 4090, value, full, target())

"""`infer --input` for models of several inputs: folders for each, .npz files, and what is wrong
with them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.named_inputs import named_inputs, recorded_inputs
from qatspec.diag import DiagnosticError
from qatspec.spec import InputSpec, TensorSpec

INPUTS = {
    "rgb": InputSpec(size=(4, 6), mean=100, std=50, at="/model/inputs/rgb"),
    "speed": TensorSpec(shape=(3,)),
    "ids": TensorSpec(shape=(2,), dtype="int32"),
}
ARRAYS = {
    "rgb": np.full((3, 4, 6), 2.0, np.float32),
    "speed": np.array([1.0, 2.0, 3.0]),  # float64: converted
    "ids": np.array([4, 5]),
}


@pytest.fixture
def folder(tmp_path):
    for name in INPUTS:
        (tmp_path / name).mkdir()
    Image.fromarray(np.full((8, 12, 3), 200, np.uint8)).save(tmp_path / "rgb/a.png")
    np.save(tmp_path / "rgb/b.npy", ARRAYS["rgb"])
    for stem in "ab":
        np.save(tmp_path / f"speed/{stem}.npy", ARRAYS["speed"])
        np.save(tmp_path / f"ids/{stem}.npy", ARRAYS["ids"])
    return tmp_path


def read(source, inputs=INPUTS):
    told = []
    found = list(named_inputs(source, inputs, told.append))
    return found, [d.message for d in told]


def refused(source, inputs=INPUTS):
    with pytest.raises(DiagnosticError) as caught:
        read(source, inputs)
    (found,) = caught.value.diagnostics
    assert found.code == "QS923" and found.help
    return found.message


def test_a_folder_for_each(folder):
    (one, other), told = read(folder)
    assert not told and (one.path.name, other.path.name) == ("a.png", "b.npy")
    rgb, speed, ids = one.arrays
    assert rgb.shape == (3, 4, 6) and np.unique(rgb).tolist() == [2.0]  # (200 - 100) / 50
    assert speed.dtype == np.float32 and ids.dtype == np.int32 and ids.tolist() == [4, 5]
    assert one.picture == folder / "rgb/a.png" and one.meta["width"] == 12
    assert other.picture is None and np.array_equal(other.arrays[0], ARRAYS["rgb"])


def test_arrays_come_in_the_order_of_forward(folder):
    turned = dict(reversed(INPUTS.items()))
    (one, _), _ = read(folder, turned)
    assert [array.shape for array in one.arrays] == [(2,), (3,), (3, 4, 6)]


def test_archives(tmp_path):
    for stem in "ab":
        np.savez(tmp_path / f"{stem}.npz", other=np.zeros(1), **ARRAYS)
    found, told = read(tmp_path)
    assert [one.path.name for one in found] == ["a.npz", "b.npz"] and not told
    (one,), _ = read(tmp_path / "b.npz")
    assert one.picture is None and one.arrays[2].tolist() == [4, 5]


def test_files_without_a_partner_are_told(folder):
    (folder / "speed/a.npy").unlink()
    found, told = read(folder)
    assert [one.path.name for one in found] == ["b.npy"]
    assert len(told) == 2 and all("speed` has no file of its name" in words for words in told)


def test_a_broken_example_is_left_out(folder):
    np.save(folder / "ids/a.npy", np.zeros(3, int))
    found, told = read(folder)
    assert [one.path.name for one in found] == ["b.npy"] and "`ids` is int64 (3,)" in told[0]
    np.save(folder / "ids/b.npy", np.zeros(2))
    assert "`ids` is float64 (2,)" in refused(folder)


def test_what_is_no_example(folder, tmp_path):
    assert "it has no folder `x`" in refused(folder, {**INPUTS, "x": INPUTS["ids"]})
    assert "it is one file" in refused(folder / "rgb/a.png")
    assert "no such folder" in refused(folder / "none")
    for path in (folder / "ids").iterdir():
        path.rename(path.with_stem(f"{path.stem}x"))
    assert "no name of a file is in each" in refused(folder)
    (tmp_path / "c.npz").write_bytes(b"no archive")
    assert "it is no .npz file" in refused(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", rgb=ARRAYS["rgb"])
    assert "it lacks `speed`, `ids`" in refused(tmp_path / "d.npz")


def test_what_a_file_records_of_its_inputs():
    record = {
        "rgb": {"format": "rgb", "size": [4, 6], "mean": [1, 2, 3], "std": [4, 5, 6]},
        "speed": {"shape": [3], "dtype": "float32"},
    }
    found = recorded_inputs(record)
    assert found["rgb"].shape == (3, 4, 6) and found["rgb"].mean == (1, 2, 3)
    assert found["speed"].shape == (3,)

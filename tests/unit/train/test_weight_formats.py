"""Formats of files of weights: what is read, and what is refused with the way to export it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qatspec.api import DiagnosticError, load_state
from qatspec.train.given import Given
from tests.unit.train.foreign import (
    RAW,
    Holder,
    Net,
    State,
    demand_loaded,
    refused,
    save,
    trained,
    under,
)

# -- formats ---------------------------------------------------------------------------------------


@pytest.fixture
def as_safetensors() -> Any:
    library = pytest.importorskip("safetensors.torch", reason="the extra safetensors is absent")
    return library.save_file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors(as_safetensors: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained().items()}
    as_safetensors(under("model.", state), tmp_path / "model.safetensors", {"format": "pt"})
    model = Holder()
    load_state(model, tmp_path / "model.safetensors")
    demand_loaded(model, state)


def sharded(folder: Path, state: State, write: Any, end: str) -> Path:
    keys, names = list(state), (f"model-00001-of-00002{end}", f"model-00002-of-00002{end}")
    parts = dict(zip(names, (keys[:5], keys[5:]), strict=True))
    for name, part in parts.items():
        write({key: state[key] for key in part}, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    (folder / "model.index.json").write_text(json.dumps({"weight_map": places}))
    return folder / "model.index.json"


def test_shards_of_safetensors(as_safetensors: Any, tmp_path: Path) -> None:
    state, model = trained(), Net()
    load_state(model, sharded(tmp_path, state, as_safetensors, ".safetensors"))
    demand_loaded(model, state)


def test_shards(tmp_path: Path) -> None:
    state, model = trained(), Net()
    index = sharded(tmp_path, under("module.", state), torch.save, ".bin")
    load_state(model, index)
    demand_loaded(model, state)
    (tmp_path / "model-00002-of-00002.bin").unlink()
    refused("QS905", "no such file", model, index)
    for name in ("../model-00001-of-00002.bin", "/etc/passwd", 3, None, ["a"], "a\\b", ".."):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        refused("QS901", "not a file beside it", model, index)
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    refused("QS901", "an index itself", model, index)
    index.write_text('{"weight": [')
    refused("QS901", "JSON without a `weight_map`", model, index)


def test_safetensors_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install" in refused("QS915", "file of safetensors", Net(), path)


HOSTILE_HEADERS = (
    b'{"a":{"dtype":"F32","shape":[9000000000],"data_offsets":[0,36000000000]}}', b"{}" * 9, b"{",
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b'{"a":{"dtype":"F99"}}', b"{" * 99,
    b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b'{"a":[]}', b"{}",
)  # fmt: skip


@pytest.mark.parametrize("header", HOSTILE_HEADERS)
def test_hostile_headers(as_safetensors: Any, header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length in (len(header), len(header) - 1, 2**40, 2**63):
        path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        refused("QS901", "read safely", Net(), path)


# -- what is refused, and how it is exported -------------------------------------------------------


class Evil:
    """Runs a command where a pickle is trusted."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(Path(os.environ["EVIL"]) / "done"),)


class Evaluates:
    def __reduce__(self) -> Any:
        return eval, ("__import__('os').mkdir(__import__('os').environ['EVIL'] + '/done')",)


@pytest.mark.parametrize("evil", [Evil, Evaluates])
@pytest.mark.parametrize("old", [False, True], ids=["archive", "before 1.6"])
def test_pickles_are_not_run(
    evil: type, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path))
    for content in (evil(), {"state_dict": RAW, "args": evil()}, {"model": evil()}):
        path = save(tmp_path, content, _use_new_zipfile_serialization=not old)
        try:
            load_state(Net(), path)
        except DiagnosticError as error:
            assert error.diagnostics[0].code == "QS901"
        assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("content", "entry"),
    [(Holder(), ""), ({"model": Holder(), "ema": None}, "['model']"),
     ({"model": Holder(), "ema": Holder().half()}, "['ema']")],
)  # fmt: skip
def test_whole_modules_are_refused_and_exported(content: Any, entry: str, tmp_path: Path) -> None:
    path = save(tmp_path, content, "whole.pt")
    help_ = refused("QS901", "whole module of the class `.*Holder`.* run code", Holder(), path)
    exported = _follow(help_, tmp_path)
    assert f"{entry}.float()" in help_
    load_state(model := Holder(), exported)
    inside = content if entry == "" else content[entry[2:-2]]
    demand_loaded(model.net, inside.float().net.state_dict())


def test_torchscript_is_refused_and_exported(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    torch.jit.script(net).save(str(tmp_path / "script.pt"))
    help_ = refused("QS901", "a TorchScript archive", net, tmp_path / "script.pt")
    load_state(net, _follow(help_, tmp_path))


def test_exported_programs_are_refused_and_exported(tmp_path: Path) -> None:
    net = nn.Linear(3, 4)
    program = torch.export.export(net, (torch.zeros(1, 3),))
    torch.export.save(program, tmp_path / "program.pt2")
    help_ = refused("QS901", "an archive of torch.export", net, tmp_path / "program.pt2")
    load_state(net, _follow(help_, tmp_path))


def _follow(help_: str, folder: Path) -> Path:
    """Run the line that a message proposes, in the file's folder, and return what it wrote."""
    line = re.search(r"`(import torch; .*?\))`, and name that file", help_)
    assert line, help_
    before = set(folder.iterdir())
    paths = os.pathsep.join((str(Path(__file__).parents[3]), *sys.path))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", line[1]], cwd=folder, check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    (written,) = set(folder.iterdir()) - before
    return written


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5"), (b"\x93NUMPY\x01", "numpy"), (b"GGUF\x03", "GGUF"),
        (b"\x1f\x8b\x08", "gzip"), (b"version https://git-lfs.github.com/spec/v1", "git-lfs"),
        (b"<!DOCTYPE html>", "web page"), (b"\x80\x04\x95", "read safely"), (b"", "read safely"),
        (b"PK\x03\x04 no archive", "read safely"), (b"\x80\x02}q\x00.", "read safely"),
    ],
)  # fmt: skip
def test_other_formats(start: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(start + bytes(40))
    refused("QS901", words, Net(), tmp_path / "w.bin")


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, 4).to_sparse(), torch.zeros(2, 4, device="meta"),
        torch.quantize_per_tensor(torch.ones(2, 4), 0.1, 0, torch.qint8),
    ],
)  # fmt: skip
def test_tensors_without_numbers(value: torch.Tensor, tmp_path: Path) -> None:
    path = save(tmp_path, {**trained(), "head.weight": value})
    refused("QS901", "`head.weight` is", Net(), path)


def test_an_expanded_tensor_takes_no_memory(tmp_path: Path) -> None:
    huge = torch.ones(1).expand(1 << 40)
    path = save(tmp_path, {**trained(), "head.bias": huge})
    refused("QS902", "another shape", Net(), path)


def test_the_record_says_nothing_where_nothing_was_done() -> None:
    assert load_state(Net(), trained()) == Given()

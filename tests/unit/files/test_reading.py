"""Whatever a path names, opening it ends at once: a regular file, or an OSError with its reason."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.engine.lock import locked
from qatspec.export import OnnxRunner
from qatspec.files import how_to_read, open_file, read_file, why_no_folder, why_unreadable
from qatspec.plan.checkpoints import is_intact
from qatspec.program import Artifact, load_program
from qatspec.registry import Registry
from qatspec.source import load_document
from qatspec.train.checkpoint import load
from qatspec.train.weights import read_weights


def pipe(path):
    os.mkfifo(path)


def listening(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def loop(path):
    path.symlink_to(path)


#: what stands at the path -> a word of the reason
KINDS = {
    "named pipe": (pipe, "named pipe"),
    "socket": (listening, "socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), ""),
    "environment": (lambda path: path.symlink_to("/proc/self/environ"), "kernel"),
    "kernel's answer": (lambda path: path.symlink_to("/proc/version"), "kernel"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "loop": (loop, "form a loop"),
    "nothing": (lambda path: None, "no such file"),
}


@pytest.fixture(params=KINDS)
def strange(request, tmp_path, monkeypatch):
    """(relative path, a word of the reason); relative, because a socket's path may not be long."""
    monkeypatch.chdir(tmp_path)
    make, word = KINDS[request.param]
    path = tmp_path / "strange.yaml"
    make(path.relative_to(tmp_path) if request.param == "socket" else path)
    return path, word


def test_refused_with_the_reason(strange):
    path, word = strange
    with pytest.raises(OSError) as caught:
        open_file(path)
    assert word in why_unreadable(caught.value)


def open_plugin(path):
    Registry([]).include(path)


@pytest.mark.parametrize(
    "read",
    [load_document, open_plugin, load, read_weights, load_program, Artifact.load, OnnxRunner.load],
    ids=lambda read: getattr(read, "__qualname__", ""),
)
def test_every_reader_ends_in_a_diagnostic(read, strange):
    path, word = strange
    with pytest.raises(DiagnosticError) as caught:
        read(path)
    (found,) = caught.value.diagnostics
    assert word in found.message or "there is no" in found.message


def test_a_checkpoint_at_a_strange_path_is_not_intact(strange):
    assert not is_intact(strange[0])


@pytest.mark.parametrize(
    "name",
    ["a\0b", "\ud800", "x" * 5000, "sub/" * 2000 + "x"],
    ids=["nul", "surrogate", "long", "deep"],
)
def test_impossible_names(name, tmp_path):
    for refused in (open_file, lambda path: read_file(path, 1)):
        with pytest.raises(OSError) as caught:
            refused(f"{tmp_path}/{name}")
        assert why_unreadable(caught.value)
    assert why_no_folder(f"{tmp_path}/{name}")


def test_permissions_are_named():
    error = PermissionError(13, os.strerror(13), "x")
    assert why_unreadable(error) == "it may not be read (permissions)"


def test_links_to_regular_files_are_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 7) == b"content"


def test_a_limit_is_named(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 2 MiB"):
        read_file(path, 2 << 20)
    with pytest.raises(DiagnosticError, match=r"QS710: .* larger than 2 GiB"):
        load_program(path)


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 10)
    real = os.fstat

    def smaller(descriptor):
        status = list(real(descriptor))
        status[6] = 0
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", smaller)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        read_file(path, 9)


def test_a_compressed_checkpoint_is_refused(tmp_path):
    import zipfile

    plain, small = tmp_path / "plain.pth", tmp_path / "small.pth"
    torch.save({"weight": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert small.stat().st_size < plain.stat().st_size // 100
    with pytest.raises(DiagnosticError, match=r"QS901: .* is compressed"):
        read_weights(small)
    assert list(read_weights(plain).tensors) == ["weight"]


def test_a_lock_that_is_a_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with locked(tmp_path):
        pass


#: a kind of KINDS -> words of the advice
ADVICE = {
    "named pipe": "write its contents to a regular file",
    "socket": "write its contents to a regular file",
    "device": "write its contents to a regular file",
    "environment": "write its contents to a regular file",
    "folder": "name a file",
    "loop": "correct the symbolic links",
    "nothing": "look again",
}


@pytest.mark.parametrize("kind", ADVICE)
def test_advice_says_what_is_needed(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    KINDS[kind][0](Path("strange.yaml"))
    with pytest.raises(OSError) as caught:
        open_file("strange.yaml")
    assert ADVICE[kind] in how_to_read(caught.value, "look again")
    with pytest.raises(DiagnosticError) as spec:
        load_document(tmp_path / "strange.yaml")
    (found,) = spec.value.diagnostics
    assert found.help == how_to_read(caught.value, "correct the path")
    with pytest.raises(DiagnosticError) as weights:
        read_weights(tmp_path / "strange.yaml")
    (found,) = weights.value.diagnostics
    assert (found.code, found.help) == ("QS905", how_to_read(caught.value, "correct the path"))

"""Digests of contents: what they see, what they remember, and what hinders remembering."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from qatspec.files import content_digest, contents, file_digests


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of one's own; files are old enough to be remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "_STABLE_NS", -1)
    monkeypatch.setattr(contents, "_known", {})
    return tmp_path / "cache/qatspec/contents-1.sqlite"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Paths that were opened."""
    opened: list[str] = []
    real = contents.open_file
    monkeypatch.setattr(contents, "open_file", lambda path: (opened.append(path), real(path))[1])
    return opened


def forget() -> None:
    contents._known.clear()  # as another command does


def test_names_and_contents_count_and_paths_do_not(tmp_path, cache):
    one, two = tmp_path / "one.png", tmp_path / "elsewhere"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert content_digest({"a": one}) == content_digest({"a": two})
    assert content_digest({"a": one}) != content_digest({"b": one})
    assert content_digest({"a": one}) != content_digest({"a": one}, facts=1)
    both = content_digest({"a": one, "b": two})
    assert both == content_digest({"b": two, "a": one})
    two.write_bytes(b"sama")
    assert both != content_digest({"a": one, "b": two})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=3)), max_size=3),
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=3)), max_size=3),
)
def test_equal_if_and_only_if_the_files_are(tmp_path_factory, one, two):
    folder = tmp_path_factory.mktemp("sets")

    def digest(which: str, files: dict[str, bytes]) -> str:
        paths = {name: folder / f"{which}{name}" for name in files}
        for name, path in paths.items():
            path.write_bytes(files[name])
        return content_digest(paths)

    assert (digest("1", dict(one)) == digest("2", dict(two))) == (dict(one) == dict(two))


def test_a_file_is_read_once(tmp_path, cache, reads):
    path = tmp_path / "a"
    path.write_bytes(b"first")
    first = file_digests([path])
    forget()
    assert file_digests([path]) == first and len(reads) == 1


@pytest.mark.parametrize("change", ["same size", "same size and time", "other inode"])
def test_a_change_is_seen(tmp_path, cache, change):
    path = tmp_path / "a"
    path.write_bytes(b"first")
    status = path.stat()
    first = file_digests([path])
    forget()
    time.sleep(0.02)  # beyond the clock of the file system
    if change == "other inode":
        (tmp_path / "b").write_bytes(b"other")
        (tmp_path / "b").replace(path)
    else:
        path.write_bytes(b"other")
    if change != "same size":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digests([path]) != first


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, cache, reads, monkeypatch):
    monkeypatch.setattr(contents, "_STABLE_NS", 2_000_000_000)
    path = tmp_path / "a"
    for data in (b"first", b"other"):  # may leave the same times on a coarse clock
        path.write_bytes(data)
        file_digests([path])
    assert len(reads) == 2
    monkeypatch.setattr(contents.time, "time_ns", lambda: path.stat().st_mtime_ns - 10**12)
    file_digests([path])
    file_digests([path])
    assert len(reads) == 4, "a clock that was set back: not remembered"


def test_the_cache_holds_no_path(tmp_path, cache):
    path = tmp_path / "a-telling-name"
    path.write_bytes(b"x")
    file_digests([path])
    assert b"telling" not in cache.read_bytes() and cache.stat().st_size


@pytest.mark.parametrize("harm", ["damaged", "a folder", "held", "foreign", "no home"])
def test_without_a_usable_cache_files_are_read(tmp_path, cache, harm, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    expected = file_digests([path])
    forget()
    if harm == "damaged":
        cache.write_bytes(b"no database" * 400)
    elif harm == "a folder":
        cache.unlink()
        cache.mkdir()
    elif harm == "foreign":
        cache.unlink()
        with sqlite3.connect(cache) as base:
            base.execute("CREATE TABLE contents (other TEXT)")
    elif harm == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif harm == "held":
        monkeypatch.setattr(contents, "_TIMEOUT_S", 0.01)
        holder = sqlite3.connect(cache, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    assert file_digests([path]) == expected
    if harm == "damaged":
        forget()
        assert file_digests([path]) == file_digests([path]) == expected
        assert cache.read_bytes().startswith(b"SQLite format 3"), "it is made anew"


def test_what_cannot_be_read_counts_by_its_reason(tmp_path, cache):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    missing, loop = tmp_path / "missing", tmp_path / "loop"
    loop.symlink_to(loop)
    found = file_digests([pipe, missing, loop, "nul\0"])
    assert found[0] == "unreadable: it is a named pipe, not a regular file"
    assert found[1] == "unreadable: there is no such file"
    assert all(reason.startswith("unreadable: ") for reason in found)
    before = content_digest({"a": missing})
    missing.write_bytes(b"")
    assert content_digest({"a": missing}) != before

"""The one way to open a file that a spec, a command line or another file names."""

from __future__ import annotations

import errno
import json
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

#: Filesystems whose files are the kernel's answers (the environment, memory, devices), not data.
_KERNEL_FILESYSTEMS = frozenset(
    {"proc", "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "cgroup", "cgroup2", "bpf"}
)
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EISDIR: "it is a folder",
    errno.EACCES: "it may not be read (permissions)",
    errno.EPERM: "it may not be read (permissions)",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the device reported an input/output error",
}
_ADVICE = {
    errno.EISDIR: "name a file, not a folder",
    errno.EACCES: "give your user permission to read it, and to enter the folders above it",
    errno.EPERM: "give your user permission to read it, and to enter the folders above it",
    errno.ELOOP: "name the file itself, or correct the symbolic links",
    errno.EIO: "copy the file from an intact disk",
}


class SpecialFileError(OSError):
    """A path leads to a pipe, a device, a socket or an answer of the kernel, not to a file."""


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading in binary mode.

    path  the file; symbolic links are followed. The call never waits: a named pipe, a socket, a
          device or a file of the kernel (`/proc`, `/sys`) is refused before it is opened, and again
          after, because another process may exchange the file in between.

    Returns the open file. Raises OSError; `why_unreadable` puts it into words.
    """
    name = os.fspath(path)
    try:
        _demand_regular(os.stat(name), name)  # noqa: PTH116  opening a device may act on it
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a NUL character, or a character that no file name can hold
        raise OSError(errno.EINVAL, "the path holds a character that no file name has") from error
    try:
        _demand_regular(os.fstat(descriptor), name)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file.

    path   the file, opened as `open_file` does.
    limit  most bytes that are read; a larger file is refused, also one that grows while it is read.

    Returns the bytes. Raises OSError; `why_unreadable` puts it into words.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {_size(limit)}", os.fspath(path))
    return data


def read_json(path: str | os.PathLike[str], limit: int) -> Any:
    """What a regular file of JSON holds. limit: as in `read_file`.

    Raises OSError; ValueError where it is not JSON.
    """
    return parse_json(read_file(path, limit))


def parse_json(data: str | bytes) -> Any:
    """What a JSON text holds. Raises ValueError, also where it is nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def why_unreadable(error: OSError) -> str:
    """Put an error of reading into words.

    error  what `open_file` or `read_file` raised.

    Returns words that follow "cannot be read: ".
    """
    if isinstance(error.errno, int) and error.strerror == os.strerror(error.errno):
        return _REASONS.get(error.errno, error.strerror)
    return error.strerror or str(error) or type(error).__name__


def how_to_read(error: OSError, otherwise: str) -> str:
    """What makes a file readable that `open_file` refused, as a help text; `otherwise` where the
    reason says nothing of that (there is no such file)."""
    if isinstance(error, SpecialFileError):
        return "write its contents to a regular file on a disk, and name that file"
    return _ADVICE.get(error.errno or 0, otherwise)


def why_no_folder(path: str | os.PathLike[str]) -> str | None:
    """Tell why the entries of a folder cannot be listed.

    path  the folder.

    Returns the reason in words; None where they can be listed.
    """
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        absent = {errno.ENOENT: "there is no such folder", errno.ENOTDIR: "it is not a folder"}
        return absent.get(error.errno or 0) or why_unreadable(error)
    except ValueError:
        return "the path holds a character that no file name has"
    return None


def _demand_regular(status: os.stat_result, name: str) -> None:
    """Raises OSError unless `status` is that of a regular file with contents of its own."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if kind != stat.S_IFREG:
        what = f"it is {_KINDS.get(kind, 'special')}, not a regular file"
        raise SpecialFileError(errno.EINVAL, what, name)
    if status.st_dev in _kernel_devices():
        raise SpecialFileError(errno.EINVAL, "it belongs to the kernel (/proc or /sys)", name)


@cache
def _kernel_devices() -> frozenset[int]:
    """Device numbers of the mounted kernel filesystems; empty on systems other than Linux."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    devices = set()
    for mount in mounts:  # "36 35 98:0 /root /mount/point options - type source options", proc(5)
        before, _, after = mount.partition(" - ")
        if after.split(" ", 1)[0] in _KERNEL_FILESYSTEMS:
            major, _, minor = before.split(" ")[2].partition(":")
            devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)


def _size(limit: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if limit >= 1 << power and limit % (1 << power) == 0:
            return f"{limit >> power} {unit}"
    return f"{limit} bytes"

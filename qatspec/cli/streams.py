"""Reserve stdout for the command's own output; everything else that prints goes to stderr."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import click

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class ReaderGoneError(Exception):
    """The reader of stdout has closed it: the rest of the output is dropped."""


class OutputStream(io.TextIOBase):
    """A text stream whose failures do not end a command.

    The first failure is kept in `failure` and later text is dropped, so that a full disk behind
    stdout does not cost the results of a training.

    needs_reader: raise ReaderGoneError where the reader has gone away (`| head`), because then
    the rest of the output is not wanted.
    """

    def __init__(self, stream: TextIO | None, *, needs_reader: bool) -> None:
        self._stream = stream
        self._needs_reader = needs_reader
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        if self._stream is not None and self.failure is None:
            with self._guarded():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass what was written to the system."""
        if self._stream is not None and self.failure is None:
            with self._guarded():
                self._stream.flush()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            if self._needs_reader and error.errno == errno.EPIPE:
                raise ReaderGoneError from error

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor. Raises OSError where there is none."""
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"


_own: OutputStream | None = None


def stdout() -> TextIO:
    """The stream of the command's own output."""
    return sys.stdout if _own is None else cast("TextIO", _own)


def is_colored(stream: TextIO) -> bool:
    """Return whether text that is written to the stream has colours: NO_COLOR forbids them,
    FORCE_COLOR (not "0") demands them, and otherwise terminals have them, but for TERM=dumb."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def write(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Write text that is clean already to stdout or stderr."""
    stream = sys.stderr if err else stdout()
    click.echo(text, file=stream, nl=nl, color=is_colored(stream) or None)


@contextlib.contextmanager
def stdout_for_children() -> Iterator[None]:
    """Inside, processes that are started have the stdout of this one: they are the command."""
    try:
        ours = stdout().fileno()
    except (OSError, ValueError):  # a stream of a caller in Python
        yield
        return
    separated = os.dup(_STDOUT)
    try:
        os.dup2(ours, _STDOUT)
        yield
    finally:
        os.dup2(separated, _STDOUT)
        os.close(separated)


@contextlib.contextmanager
def own_stdout() -> Iterator[OutputStream]:
    """Inside, `stdout()` is the process's stdout and everything else that prints writes to stderr:
    `print` of plugins, libraries in C, child processes.

    Gives the stream, whose `failure` says whether all of it was written.
    """
    global _own
    out, err = sys.stdout, sys.stderr
    _open_standard_descriptors()
    with contextlib.ExitStack() as stack:
        _own = OutputStream(_separated(out, stack), needs_reader=True)
        shown = err if err is not None else stack.enter_context(Path(os.devnull).open("w"))
        sys.stdout = sys.stderr = OutputStream(shown, needs_reader=False)
        try:
            yield _own
        finally:
            _own, sys.stdout, sys.stderr = None, out, err


def _separated(out: TextIO | None, stack: contextlib.ExitStack) -> TextIO | None:
    """A stream for `out` alone, where descriptor 1 of the process is its; else `out` itself."""
    try:
        if out is None or out.fileno() != _STDOUT:
            return out
        out.flush()
        saved = os.dup(_STDOUT)
    except (OSError, ValueError):  # closed, or a stream of a test without a descriptor
        return out
    stream = os.fdopen(saved, "w", encoding=out.encoding, errors="backslashreplace")
    os.dup2(_STDERR, _STDOUT)

    def restore() -> None:
        os.dup2(saved, _STDOUT)
        _silence(saved)  # closing writes what a full disk did not take
        stream.close()

    stack.callback(restore)
    return stream


def _open_standard_descriptors() -> None:
    """Open the null device for a closed stdin, stdout or stderr, so that no later file gets its
    number."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        if not _is_open(descriptor):
            _silence(descriptor)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _silence(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)

"""Records what file plugins import and open below their folders, in every process.

An audit hook (PEP 578) sees each import, `open`, listing of a folder, subprocess and library that
Python code asks for. What the code of a file plugin asks for below the plugin's folder is an input
of the steps that use the plugin. The state of a file is taken when it is read, so that an edit
during a training counts for the next one. Accesses go to the journal of the step
(qatspec.registry.journal): loader workers inherit it, and spawned ranks are given its path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Collection, Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import FrameType
from typing import Any

import qatspec
from qatspec.files import was_digested
from qatspec.registry.accesses import ABSENT, JUDGED, NAMES, WHOLE, installed_folders, state_of
from qatspec.registry.journal import Access, Journal, Mark
from qatspec.registry.scanning import (
    asks_for_names,
    measures_files,
    named_files,
    reads_by_native_code,
    reads_by_python,
)

_QATSPEC = os.path.dirname(os.path.abspath(qatspec.__file__))  # noqa: PTH100, PTH120  as frames
_LAZY = f"{_QATSPEC}/types/lazy.py"
#: Parts of qatspec that open files of their own: specs, data, results.
_OWN = tuple(
    f"{_QATSPEC}/{part}"
    for part in (
        "cli/", "engine/", "files/contents.py", "plan/", "registry/", "source/", "spec/",
        "stages/", "train/",
    )
)  # fmt: skip
_IMPORTLIB = ("<frozen importlib", importlib.util.__file__.removesuffix("util.py"))
_LISTS = frozenset({"os.listdir", "os.scandir"})
_STARTS = frozenset(
    {"ctypes.dlopen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
)
_EVENTS = frozenset({"open", "import", *_LISTS, *_STARTS})


class _Recorder:
    """What this process has seen. There is one, because an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Access]] = {}
        self.ignored: set[str] = set()
        self.journal: Journal | None = None
        self.busy = threading.local()
        self.is_hooked = False
        self.judging = False

    def watch(self, folder: str) -> None:
        if folder not in self.folders:
            self.folders[folder] = {}
            _role.cache_clear()
            self._note_imported(folder)
        if not self.is_hooked:
            self.is_hooked = True
            sys.addaudithook(self.hook)

    def _note_imported(self, folder: str) -> None:
        """Note modules of the folder that were imported before anything was recorded: the plugin
        will use them as they are."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__")
            if name != "__main__" and isinstance(file, str) and _role(file) == "plugin":
                for folder_below, below in self._below(file):
                    if folder_below == folder:
                        self.note(folder, below)

    def forget_changed(self, folder: str) -> None:
        """Where modules of the folder were edited since this process imported them, forget all of
        them: the plugin that is loaded again imports them again."""
        names = self.folders[folder]
        modules = {n: a.state for n, a in names.items() if n.endswith(".py") and a.state != ABSENT}
        if all(state_of(folder, name) == state for name, state in modules.items()):
            return
        files = {Path(folder, name) for name in modules}
        packages = {p for file in files for p in file.parents if _is_in(str(p), folder)}
        for name, module in list(sys.modules.items()):
            if name != "__main__" and _is_made_of(module, files | packages):
                del sys.modules[name]
        names.clear()

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called for every audit event of the process; never raises."""
        if event not in _EVENTS or getattr(self.busy, "now", False):
            return
        self.busy.now = True
        try:
            self._see(event, arguments)
        except Exception:  # noqa: BLE001  whatever fails here must not fail the program
            return
        finally:
            self.busy.now = False

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
                self._opened(path, "")
        elif event in _LISTS:
            self._opened(arguments[0] or ".", "/")
        elif event == "import":
            self._imported(*arguments[:2])
        elif (folder := self._starting_folder()) is not None:
            self.note(folder, WHOLE)

    def _opened(self, path: Any, end: str) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a number of an open file
        for folder, name in self._below(os.fsdecode(path)):
            if _is_asked_for(listing=bool(end)):
                judged = JUDGED if self.judging and name and not name.endswith(".py") else ""
                self.note(folder, name + end + judged if name else "")

    def _imported(self, module: str, file: str | None) -> None:
        """An import that is about to happen: of a compiled module; or of a name that is looked for
        in folders, where a file that is not there yet would be taken."""
        if file is not None:
            for folder, name in self._below(file):
                self.note(folder, name)
                self.note(folder, WHOLE)
            if (needing := self._folder_that_needs(module)) is not None:
                self.note(needing, WHOLE)
            return
        if _role(next(_stack(importlib=False), "")) != "plugin":
            return
        parent, _, last = module.rpartition(".")
        starts = getattr(sys.modules.get(parent), "__path__", ()) if parent else sys.path
        ends = (".py", "/__init__.py", EXTENSION_SUFFIXES[0])
        for path in (f"{start or '.'}/{last}{end}" for start in starts for end in ends):
            for folder, name in self._below(path):
                self.note(folder, name)

    def _folder_that_needs(self, module: str) -> str | None:
        """The folder of the plugin that imports a compiled module, itself or by packages between;
        None where one of these is known to open files by Python."""
        if reads_by_python(module.partition(".")[0]):
            return None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if file != __file__ and not file.startswith(_IMPORTLIB):
                if _role(file) == "plugin":
                    return max(f for f in self.folders if _is_in(os.path.realpath(file), f))
                if reads_by_python(package):
                    return None
            frame = frame.f_back
        return None

    def _starting_folder(self) -> str | None:
        """The folder of the plugin that starts a subprocess or loads a library; None for others,
        and for what an installed package does while it is imported."""
        for file in _stack():
            role = _role(file)
            if role == "plugin":
                return max(f for f in self.folders if _is_in(os.path.realpath(file), f))
            if role == "qatspec" or file.startswith(_IMPORTLIB):
                return None
        return None

    def _below(self, path: str) -> Iterator[tuple[str, str]]:
        """(watched folder, name in it) of a path; a compiled source stands for the source."""
        path = os.path.abspath(path)  # noqa: PTH100
        if f"{os.sep}__pycache__{os.sep}" in path:
            with contextlib.suppress(ValueError):
                path = importlib.util.source_from_cache(path)
        if not any(_is_in(path, folder) for folder in self.folders):
            path = os.path.realpath(path)
        for folder in [f for f in self.folders if _is_in(path, f)]:
            inner = (i for i in (*self.ignored, *installed_folders()) if _is_in(i, folder))
            if not was_digested(path) and not any(_is_in(path, i) for i in inner):
                yield folder, path[len(folder) + 1 :].replace(os.sep, "/")

    def note(self, folder: str, name: str) -> None:
        """Keep a name with the state that it has now, unless that is known."""
        known, mark = self.folders[folder].get(name), _mark(folder, name)
        if known is not None and known.mark == mark:
            return
        access = self.folders[folder][name] = Access(state_of(folder, name), mark)
        if self.journal is not None:
            self.journal.append(folder, name, access)
        if name.endswith(".py"):
            self.scan(folder, name)

    def scan(self, folder: str, name: str) -> None:
        """Note what a source says of files that no event shows."""
        try:
            source = Path(folder, name).read_bytes()
        except OSError:
            return
        if reads_by_native_code(source) or measures_files(source):
            self.note(folder, WHOLE)
        if asks_for_names(source):
            self.note(folder, NAMES)
        for text in named_files(source):
            for start in {folder, str(Path(folder, name).parent)}:
                path = os.path.normpath(f"{start}/{text}")
                if _is_in(path, folder) and path != folder and not os.path.lexists(path):
                    self.note(folder, path[len(folder) + 1 :].replace(os.sep, "/"))


_recorder = _Recorder()


def watch(plugin: Path) -> None:
    """Record from now on what code in the folder of a file plugin imports and opens there.

    This process writes no compiled Python any more: a source that is edited within a second without
    changing its length would be taken for the older one that was compiled."""
    sys.dont_write_bytecode = True
    folder = str(plugin.parent)
    _recorder.watch(folder)
    _recorder.forget_changed(folder)
    _recorder.scan(folder, plugin.name)


def ignore(folder: Path) -> None:
    """Leave out a folder: results that qatspec writes are no input of a plugin."""
    _recorder.ignored.add(os.path.realpath(folder))


@contextlib.contextmanager
def recording(path: Path) -> Iterator[None]:
    """Inside, accesses of this process and of those that it forks go to the journal at `path`,
    those that were seen before first. Raises OSError."""
    outer = _recorder.journal
    known = ((f, n, a) for f, names in _recorder.folders.items() for n, a in names.items())
    _recorder.journal = Journal(path, known)
    try:
        yield
    finally:
        _recorder.journal.close()
        _recorder.journal = outer


@contextlib.contextmanager
def judging(*, only: bool) -> Iterator[None]:
    """Inside, what a plugin's data set opens is read for the validation alone, if `only`."""
    outer, _recorder.judging = _recorder.judging, only
    try:
        yield
    finally:
        _recorder.judging = outer


def _is_made_of(module: object, places: Collection[Path]) -> bool:
    """Return whether a module is one of these files, or a package of one of these folders."""
    known = getattr(module, "__dict__", {})
    try:
        paths = [known.get("__file__") or "", *(known.get("__path__") or ())]
    except TypeError:  # what stands in for a module may have anything there
        return False
    return any(isinstance(path, str) and path and Path(path) in places for path in paths)


# -- who asks ------------------------------------------------------------------------------------


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _mark(folder: str, name: str) -> Mark:
    if name in (WHOLE, NAMES):
        return (0, 0, 0)
    name = name.removesuffix(JUDGED)
    try:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_ino, status.st_mtime_ns


def _stack(*, importlib: bool = True) -> Iterator[str]:
    """Files of the code that runs, from the innermost call on; importlib: its own files too."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file != __file__ and (importlib or not file.startswith(_IMPORTLIB)):
            yield file
        frame = frame.f_back  # type: ignore[assignment]


@cache
def _role(file: str) -> str:
    """Return what code a file holds: "plugin", "qatspec" (parts that open files of their own), or
    "" for any other."""
    if file.startswith(_OWN):
        return "qatspec"
    if file.startswith("<"):
        return ""
    path = _real_path(file)
    for folder in (f for f in _recorder.folders if _is_in(path, f)):
        inner = (i for i in (*installed_folders(), _QATSPEC) if _is_in(i, folder))
        if not any(_is_in(path, i) for i in inner):
            return "plugin"
    return ""


@cache  # of thousands of modules, for each folder that is watched
def _real_path(file: str) -> str:
    return os.path.realpath(file)


def _is_asked_for(*, listing: bool) -> bool:
    """Return whether an access is a plugin's: its code is on the stack with none of qatspec's own
    in between; or its module is imported by name; or a thread of its own reads."""
    importing = False
    for file in _stack():
        if file.startswith(_IMPORTLIB):
            if listing and not importing:
                return False  # import lists folders, and asks for each file besides
            importing = True
        elif file == _LAZY and importing:
            return True
        elif role := _role(file):
            return role == "plugin"
    return threading.current_thread() is not threading.main_thread()

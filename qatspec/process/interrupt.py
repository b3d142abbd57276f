"""SIGINT (Ctrl-C), SIGTERM and SIGHUP: the first one stops at a good moment, the second at once.

Outside of `deferred` the first signal raises `Interrupted` where the process is. Inside, it is
noted, and the code there calls `check` where everything up to that moment is saved. A second signal
raises at once in either case, and ends the process after GRACE seconds where it is held up in
native code (a collective that waits for another process).

Processes that are forked meanwhile (workers of data loaders) ignore SIGINT and SIGHUP, which a
terminal sends to all of them, and end with their parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds that a process may take to unwind after a second signal.
GRACE = 5.0

#: Ends the thread that counts signals: no signal has the number 0.
_END = b"\0"
_NOTICE = "\n{name}: stopping after this step; a second signal stops at once\n"


class Interrupted(KeyboardInterrupt):
    """A signal ended the command.

    number      of the signal.
    saved       the checkpoint that holds everything that was done, None where there is none.
    progress    what was done ("step 12 of 30"), "" where nothing was.
    stage       the stage that was running, "" outside of one.
    """

    def __init__(self, number: int, saved: Path | None = None, progress: str = "") -> None:
        self.number, self.saved, self.progress, self.stage = number, saved, progress, ""
        super().__init__(f"interrupted by {self.name}")

    @property
    def name(self) -> str:
        """Of the signal."""
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """128 + the number of the signal, as shells report it: 130, 143 or 129."""
        return 128 + self.number


@dataclass
class _State:
    """The state of the signal handler, one for the process."""

    handling: bool = False
    requested: int | None = None
    deferring: int = 0
    deadline: threading.Timer | None = None


_state = _State()


@contextlib.contextmanager
def handled(*, ending: bool = False) -> Iterator[None]:
    """Handle SIGNALS inside the block, but those that the process was started to ignore (nohup).

    ending: the process ends behind the block, and signals that arrive then do not change how.
    Without effect inside another such block, and in threads other than the main one, where Python
    allows no handlers.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or _state.handling:
        yield
        return
    vars(_state).update(vars(_State(handling=True)))
    wanted = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    try:
        with _watched(frozenset(wanted)):
            before = {number: signal.signal(number, _receive) for number in wanted}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_IGN if ending else handler)
                _state.handling = False
    finally:
        if _state.deadline is not None:  # the thread that sets it has ended
            _state.deadline.cancel()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Note the first signal inside the block instead of raising; `check` raises it."""
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1


def requested() -> bool:
    """Return whether a signal has arrived."""
    return _state.handling and _state.requested is not None


def request() -> None:
    """Stop as if a SIGTERM had arrived, unless a signal has: another process received one."""
    if _state.handling and _state.requested is None:
        _state.requested = signal.SIGTERM


def check(saved: Path | None = None, progress: str = "") -> None:
    """Raise Interrupted if a signal has arrived. saved, progress: what the error carries."""
    if _state.handling and _state.requested is not None:
        raise Interrupted(_state.requested, saved, progress)


@contextlib.contextmanager
def saved_before(checkpoint: Path, progress: str) -> Iterator[None]:
    """An Interrupted that leaves the block says that everything before it is in `checkpoint`."""
    try:
        yield
    except Interrupted as error:
        error.saved, error.progress = checkpoint, progress
        raise


def _receive(number: int, _: FrameType | None) -> None:
    first = _state.requested is None
    if first:
        _state.requested = number
    if not (first and _state.deferring):
        raise Interrupted(number)
    # Not print: the signal may have arrived inside of one.
    with contextlib.suppress(OSError):
        os.write(2, _NOTICE.format(name=signal.Signals(number).name).encode())


@contextlib.contextmanager
def _watched(wanted: frozenset[signal.Signals]) -> Iterator[None]:
    """A thread counts the signals, because the main one may be held up in native code."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reading, wanted), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, _END)
        thread.join()
        os.close(writing)
        os.close(reading)


def _watch(reading: int, wanted: frozenset[signal.Signals]) -> None:
    received: list[int] = []
    while _END not in (numbers := os.read(reading, 64)):
        received += [number for number in numbers if number in wanted]
        if len(received) > 1 and _state.deadline is None:
            _state.deadline = threading.Timer(GRACE, os._exit, (128 + received[-1],))
            _state.deadline.daemon = True
            _state.deadline.start()


def _before_fork() -> None:
    if _state.handling:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork_in_parent() -> None:
    if _state.handling:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _after_fork_in_child() -> None:
    if _state.handling:
        _state.handling = False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            os.setpgid(0, 0)  # torch's launcher sends signals to the group of a process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

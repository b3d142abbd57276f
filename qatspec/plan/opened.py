"""What file plugins imported and opened when a result was made, and whether it is still the same.

It is known only after a run, so a finished step's record lists it, plugin -> name -> state, and the
journal of an unfinished step does until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qatspec.plan.model import Folders, Step
from qatspec.registry.accesses import (
    ABSENT,
    IS_THERE,
    JUDGED,
    NAMES,
    PRESENT,
    WHOLE,
    files_below,
    names_below,
    states_of,
)
from qatspec.registry.journal import add_to_journal, read_journal

#: The journal in the folder of an unfinished step.
JOURNAL = "opened.jsonl"

#: file plugin -> name below its folder -> state (qatspec.registry.accesses)
Opened = Mapping[str, Mapping[str, str]]


def opened_by(step: Step, folder: Path) -> Opened:
    """What the journal in `folder` says of the file plugins of a step. Where one of them may have
    read anything, every file below its folder is listed."""
    opened: dict[str, dict[str, str]] = {}
    journal = read_journal(folder / JOURNAL)
    for plugin, plugin_folder in (*step.folders, *step.judging_folders):
        names = journal.get(plugin_folder, {})
        if WHOLE in names:
            read = {name.removesuffix(JUDGED) for name in names}
            unread = [n for n in files_below(plugin_folder) if n not in read]
            names = {**names, **states_of(plugin_folder, unread)}
        elif NAMES in names:
            names = {**dict.fromkeys(names_below(plugin_folder), PRESENT), **names}
        opened[plugin] = _both(opened.get(plugin, {}), names)
    return opened


def carry_over(opened: Opened, step: Step, folder: Path, *, judged: bool) -> None:
    """Add what a result was made of to the journal in `folder`, whose step builds on that result.

    judged: with what only judged it, which a step that judges it again reads itself.
    Raises OSError."""
    for plugin, plugin_folder in (*step.folders, *(step.judging_folders if judged else ())):
        names = opened.get(plugin, {})
        kept = {n: state for n, state in names.items() if judged or not n.endswith(JUDGED)}
        add_to_journal(folder / JOURNAL, plugin_folder, kept)


def edited(folders: Folders, opened: Opened, *, judged: bool | None = None) -> dict[str, str]:
    """ "PLUGIN: NAME" -> what became of it, of every name whose state is another one now.

    judged: of names that were read for the validation alone, or of the others; None: of all.
    """
    now: dict[str, dict[str, str]] = {}
    for plugin, folder in folders:
        names = set(opened.get(plugin, {}))
        if WHOLE in names:
            read = {name.removesuffix(JUDGED) for name in names}
            names.update(name for name in files_below(folder) if name not in read)
        elif NAMES in names:
            names.update(names_below(folder))
        if judged is not None:
            names = {name for name in names if name.endswith(JUDGED) == judged}
        states = states_of(folder, names - {WHOLE, NAMES})
        now[plugin] = _both(now.get(plugin, {}), states)
    return {
        f"{plugin}: {name.removesuffix(JUDGED).removesuffix(IS_THERE)}": _word(before, state)
        for plugin, states in now.items()
        for name, state in sorted(states.items())
        if state != (before := opened[plugin].get(name, ABSENT))
    }


def _both(one: Mapping[str, str], two: Mapping[str, str]) -> dict[str, str]:
    """The states of two folders whose plugins have the same name: of a name in both, both."""
    return {
        name: "+".join(dict.fromkeys(m[name] for m in (one, two) if name in m))
        for name in sorted({*one, *two})
    }


def _word(before: str, now: str) -> str:
    if before == ABSENT:
        return "is new"
    return "was removed" if now == ABSENT else "changed"

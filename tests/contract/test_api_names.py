"""Every name of an earlier API version is still there, or has a row in the table of renames.

`api_1.txt` lists the public names of `qatspec.api` in version 1, with the public members of its
classes. It never changes. A renamed name gets one row in `qatspec.registry.renames.RENAMED`.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import qatspec.api
from qatspec.hookspecs import API_VERSION
from qatspec.registry.renames import RENAMED

HERE = Path(__file__).parent


def members(cls: type) -> set[str]:
    ours = [base for base in cls.__mro__ if base.__module__.startswith("qatspec")]
    names = [(*vars(base), *vars(base).get("__annotations__", ())) for base in ours]
    return {name for some in names for name in some if not name.startswith("_")}


@pytest.fixture(scope="module")
def surface() -> set[str]:
    """Every public name of today, members of classes as `Class.member`."""
    found = set(qatspec.api.__all__)
    for name in qatspec.api.__all__:
        value = getattr(qatspec.api, name)
        if inspect.isclass(value):
            found |= {f"{name}.{member}" for member in members(value)}
    return found


def test_every_earlier_version_has_a_table():
    assert list(RENAMED) == list(range(1, API_VERSION))


@pytest.mark.parametrize("version", RENAMED)
def test_every_old_name_is_there_or_in_the_table(version, surface):
    before = (HERE / f"api_{version}.txt").read_text().split()
    renamed = RENAMED[version]
    lost = {
        name
        for name in before
        if name not in surface and name not in renamed and name.partition(".")[0] not in renamed
    }
    assert not lost, "add a row for each to qatspec.registry.renames.RENAMED"


@pytest.mark.parametrize("version", RENAMED)
def test_the_table_has_no_other_rows(version, surface):
    before = (HERE / f"api_{version}.txt").read_text().split()
    renamed = RENAMED[version]
    assert renamed.keys() <= set(before), "not a name of that version"
    assert not renamed.keys() & surface, "an old name that is still there"
    assert set(renamed.values()) <= surface, "a new name that does not exist"
    assert list(renamed) == sorted(renamed)

"""Every hook says what it is for, in the words that the README and `plugins new` build on."""

import inspect

import pytest

from qatspec import hookspecs
from qatspec.registry import KINDS

HOOKS = [n for n in vars(hookspecs) if n.startswith("qatspec_")]


@pytest.mark.parametrize("name", HOOKS)
def test_documented_and_marked(name):
    hook = getattr(hookspecs, name)
    assert len(inspect.getdoc(hook) or "") > 20
    assert hasattr(hook, "qatspec_spec"), "not marked @hookspec: pluggy would not know it"
    assert inspect.signature(hook).return_annotation is not inspect.Signature.empty


def test_every_kind_has_its_hook():
    records = {hook for hook, _ in KINDS.values()}
    assert records | {"qatspec_check", "qatspec_stage_event"} == set(HOOKS)


@pytest.mark.parametrize(("hook", "record"), KINDS.values(), ids=[h for h, _ in KINDS.values()])
def test_hooks_return_the_record_that_the_registry_takes(hook, record):
    assert record.__name__ in str(inspect.signature(getattr(hookspecs, hook)).return_annotation)

"""Every hook is documented, in the guide, with an example that runs, and has a test of its own."""

import inspect
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from qatspec import hookspecs
from qatspec.hookspecs import API_VERSION
from qatspec.registry import KINDS, Plugin, Registry
from qatspec.types import Lazy, StageEvent

HOOKS = [n for n in vars(hookspecs) if n.startswith("qatspec_")]
GUIDE = (Path(__file__).parents[2] / "plugins/README.md").read_text(encoding="utf-8")


def signature(name):
    return str(inspect.signature(getattr(hookspecs, name))).replace("'", "")


def summary(name):
    return " ".join(inspect.getdoc(getattr(hookspecs, name)).split("\n\n")[0].split())


def example(name):
    """The registry with the plugin that the hook's docstring shows, and the plugin's names."""
    _, code = inspect.getdoc(getattr(hookspecs, name)).split("\n\n", 1)
    names = {}
    exec(compile(textwrap.dedent(code), name, "exec"), names)
    assert hasattr(names[name], "qatspec_impl"), "the example implements another hook"
    names["qatspec_api"] = API_VERSION
    return Registry([Plugin("example", "example", "1", SimpleNamespace(**names))]), names


@pytest.mark.parametrize("name", HOOKS)
def test_marked_and_typed(name):
    hook = getattr(hookspecs, name)
    assert hasattr(hook, "qatspec_spec"), "not marked @hookspec: pluggy would not know it"
    assert inspect.signature(hook).return_annotation is not inspect.Signature.empty


def test_the_guide_lists_every_hook_as_it_is():
    listed = [line for line in GUIDE.splitlines() if line.startswith("| `qatspec_")]
    assert listed == [f"| `{name}{signature(name)}` | {summary(name)} |" for name in HOOKS]


def test_the_guide_knows_the_api_version():
    assert f"**`qatspec_api = {API_VERSION}`**" in GUIDE


def test_every_hook_has_a_test():
    tested = {name.removeprefix("test_hook_") for name in globals() if "test_hook_" in name}
    assert tested == set(HOOKS)


def test_every_kind_has_its_hook():
    records = {hook for hook, _ in KINDS.values()}
    assert records | {"qatspec_check", "qatspec_stage_event"} == set(HOOKS)


@pytest.mark.parametrize(("hook", "record"), KINDS.values(), ids=[h for h, _ in KINDS.values()])
def test_hooks_return_the_record_that_the_registry_takes(hook, record):
    assert record.__name__ in str(inspect.signature(getattr(hookspecs, hook)).return_annotation)


def registered(hook, kind):
    """The one record that the hook's example registers."""
    found, _ = example(hook)
    assert found.faults() == ()
    (name,) = found.registered("example")[kind]
    return found.record(kind, name)


def test_hook_qatspec_models():
    assert registered("qatspec_models", "model").build == Lazy("my_package.net:build")


def test_hook_qatspec_datasets():
    assert registered("qatspec_datasets", "dataset").metric == "accuracy"


def test_hook_qatspec_qconfigs():
    assert registered("qatspec_qconfigs", "qconfig").config.activation.dtype == "qint16"


def test_hook_qatspec_prepare_configs():
    assert registered("qatspec_prepare_configs", "prepare_config").config.shared_conv == "copy"


def test_hook_qatspec_fuse_patterns():
    pattern = registered("qatspec_fuse_patterns", "fuse_pattern").pattern
    assert pattern == ("my_op", "relu|relu6")


def test_hook_qatspec_quant_handlers():
    found, _ = example("qatspec_quant_handlers")
    assert found.handler_for("my_op").to_onnx == Lazy("my_package.handler:to_onnx")


def test_hook_qatspec_observers():
    assert registered("qatspec_observers", "observer").name == "half"


def test_hook_qatspec_marches():
    assert registered("qatspec_marches", "march").chips == ("mc1",)


def test_hook_qatspec_check():
    found, _ = example("qatspec_check")
    (finding,) = found.checks(SimpleNamespace(seed=0))
    assert (finding.code, finding.at) == ("QS008", "/seed")
    assert found.checks(SimpleNamespace(seed=1)) == []


def test_hook_qatspec_stage_event():
    found, names = example("qatspec_stage_event")
    found.emit(StageEvent(kind="step_started", step="qat"))
    assert names["seen"] == [("step_started", "qat")]

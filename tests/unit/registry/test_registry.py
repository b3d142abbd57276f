"""Lookup, provenance, and plugins that are broken in every way."""

import dataclasses
import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from qatspec.diag import Diagnostic, DiagnosticError, PluginFault, Span
from qatspec.hookspecs import hookimpl
from qatspec.registry import Plugin, Registry
from qatspec.registry.plugins import FILE, load_entry_point, source_sha256
from qatspec.types import (
    NO_PARAMS,
    DatasetDef,
    FusePattern,
    ModelDef,
    QConfig,
    QConfigDef,
    QuantHandler,
    StageEvent,
)


def model(name):
    return ModelDef(name=name, summary=name, params=NO_PARAMS, build=lambda params: None)


def dataset(name):
    return DatasetDef(
        name=name, summary=name, params=NO_PARAMS, metric="AP",
        open=lambda params, cache_dir, base_dir: None, fingerprint=lambda params, base_dir: "1",
    )  # fmt: skip


def plugin(name, **hooks):
    body = {hook: staticmethod(hookimpl(function)) for hook, function in hooks.items()}
    return Plugin(name, f"dist-{name}", "1.2", type(name, (), body)())


def code(call, *args):
    with pytest.raises(DiagnosticError) as error:
        call(*args)
    (found,) = error.value.diagnostics
    return found


def test_sorted_whatever_the_order_of_loading():
    a = plugin("a", qatspec_models=lambda: [model("zeta"), model("beta")])
    b = plugin("b", qatspec_models=lambda: [model("alpha")])
    assert Registry([a, b]).names("model") == ["alpha", "beta", "zeta"]
    assert Registry([b, a]).names("model") == ["alpha", "beta", "zeta"]


def test_aliases_lead_to_the_record_and_are_no_names():
    record = QConfigDef(name="p", summary="s", config=QConfig(), aliases=("Torch",))
    found = Registry([plugin("a", qatspec_qconfigs=lambda: [record])])
    assert found.qconfig("Torch") is record
    assert found.names("qconfig") == ["p"]


def test_duplicates_name_both_and_only_matter_when_asked_for():
    a = plugin("a", qatspec_models=lambda: [model("net"), model("own")])
    b = plugin("b", qatspec_models=lambda: [model("net")])
    found = Registry([a, b])
    assert found.model("own").name == "own"
    wrong = code(found.model, "net", "/model/type")
    assert (wrong.code, wrong.at) == ("QS002", "/model/type")
    assert [n.text for n in wrong.notes] == [
        "registered by a (dist-a==1.2)", "registered by b (dist-b==1.2)",
    ]  # fmt: skip


def test_what_a_file_of_the_spec_registers_replaces_that_of_a_package():
    """A new name in a later version of a package breaks no spec."""
    own, theirs = model("yolo"), model("yolo")
    package = plugin("a", qatspec_models=lambda: [theirs, model("other")])
    file = replace(plugin("net.py", qatspec_models=lambda: [own]), version=FILE)
    found = Registry([package, file])
    assert found.model("yolo") is own
    assert found.provider("model", "yolo").entry_point == "net.py"
    assert found.model("other").name == "other"
    assert not found.faults()
    second = replace(plugin("more.py", qatspec_models=lambda: [model("yolo")]), version=FILE)
    wrong = code(Registry([package, file, second]).model, "yolo")
    assert [n.text for n in wrong.notes] == ["registered by more.py", "registered by net.py"]


def test_a_file_does_not_replace_what_is_tried_on_every_model():
    def handler(name):
        return QuantHandler(name=name, summary="s", ops=("conv2d",), annotate=lambda *a: None)

    package = plugin("a", qatspec_quant_handlers=lambda: [handler("x")])
    file = plugin("net.py", qatspec_quant_handlers=lambda: [handler("x")])
    found = Registry([package, replace(file, version=FILE)])
    assert code(found.handler_for, "conv2d").code == "QS002"


def test_two_handlers_of_one_op():
    def handler(name):
        return QuantHandler(name=name, summary="s", ops=("conv2d",), annotate=lambda *a: None)

    found = Registry([plugin("a", qatspec_quant_handlers=lambda: [handler("x"), handler("y")])])
    assert code(found.handler_for, "conv2d").code == "QS002"
    assert found.handler_for("linear") is None


def test_disputes_are_doubts_and_faults_and_hide_nothing():
    def pattern(name, *chain):
        return FusePattern(name=name, summary="s", pattern=chain)

    a = plugin("a", qatspec_fuse_patterns=lambda: [pattern("pair", "add", "relu")])
    b = plugin("b", qatspec_fuse_patterns=lambda: [pattern("pair", "mul"), pattern("own", "add")])
    found = Registry([a, b])
    assert [p.name for p in found.fuse_patterns()] == ["own", "pair", "pair"]
    found.require_undisputed("fuse_pattern", "own")
    found.require_undisputed("fuse_pattern", "nobody_registers_it")
    assert code(found.require_undisputed, "fuse_pattern", "pair").severity == "error"
    (doubt,) = found.disputes("fuse_pattern")
    assert (doubt.code, doubt.severity) == ("QS002", "warning")
    assert found.faults() == (doubt,)
    assert code(found.fuse_pattern, "other").code == "QS301", "a dispute hides no other name"


@pytest.mark.parametrize("chain", ["relu", (), ("relu", 3), None])
def test_a_pattern_that_is_no_chain_of_names(chain):
    record = FusePattern(name="pair", summary="s", pattern=chain)
    found = Registry([plugin("a", qatspec_fuse_patterns=lambda: [record])])
    assert found.fuse_patterns() == ()
    (fault,) = found.faults()
    assert fault.code == "QS005" and "`pattern` a tuple of names" in fault.help


def test_blame_names_the_plugin_of_the_record():
    a = plugin("a", qatspec_models=lambda: [model("net")])
    b = plugin("b", qatspec_models=lambda: [model("other")])
    found = Registry([a, b])
    wanted = pytest.raises(PluginFault, match="building raised ValueError: no")
    with wanted as caught, found.attribute_errors(found.model("other"), "building"):
        raise ValueError("no")
    assert (caught.value.origin, caught.value.hook) == ("b (dist-b==1.2)", "qatspec_models")
    for error in (DiagnosticError(()), KeyboardInterrupt()):
        with pytest.raises(type(error)), found.attribute_errors(found.model("net"), "building"):
            raise error
    with (
        pytest.raises(ValueError, match="ours"),
        found.attribute_errors(model("unregistered"), "building"),
    ):
        raise ValueError("ours")


def test_the_culprit_is_the_plugin_that_the_error_came_through(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def call(f):\n    return f()\n")
    found = Registry([])
    found.include(path)
    (mine,) = found.plugins()

    def fail():
        raise ValueError("no")

    for call, origin in ((mine.module.call, "mine.py"), (lambda f: f(), None)):
        with pytest.raises(ValueError, match="no") as caught:
            call(fail)
        fault = found.plugin_fault(caught.value)
        assert (fault.origin if fault else None) == origin
        assert (fault.diagnostic().span if fault else None) == (
            Span(str(path), 2, 5, 2, 15) if origin else None
        )


class Broken:
    @staticmethod
    @hookimpl
    def qatspec_models():
        yield model("first")
        raise RuntimeError("half way")


def test_a_hook_that_raises_disturbs_nobody():
    good = plugin("good", qatspec_models=lambda: [model("net")])
    found = Registry([good, Plugin("bad", "dist-bad", "3", Broken())])
    assert found.names("model") == ["net"]
    (fault,) = found.faults()
    assert (fault.code, fault.origin) == ("QS004", "bad (dist-bad==3)")
    assert "half way" in fault.message
    assert code(found.model, "something_else").code == "QS004"


@pytest.mark.parametrize("records", [[{"name": "x"}], [model("Bad-Name")], [None]])
def test_what_is_no_record(records):
    found = Registry([plugin("a", qatspec_models=lambda: [*records, model("net")])])
    assert found.names("model") == ["net"]
    assert [f.code for f in found.faults()] == ["QS005"]


WRONG = {
    "qatspec_models": (model("x"), {"summary": 3, "params": [], "build": None, "classes": 80}),
    "qatspec_datasets": (
        dataset("x"),
        {"metric": type, "params": "a", "open": "a:b", "fingerprint": None, "precedence": "high"},
    ),
}


@pytest.mark.parametrize(
    ("hook", "name"), [(hook, name) for hook, (_, wrong) in WRONG.items() for name in wrong]
)
def test_fields_of_another_type(hook, name):
    record, wrong = WRONG[hook]
    changed = dataclasses.replace(record, **{name: wrong[name]})
    found = Registry([plugin("a", **{hook: lambda: [changed]})])
    (fault,) = found.faults()
    assert fault.code == "QS005"
    assert f"whose `{name}` is of type" in fault.message


def test_misspelt_hooks_and_arguments():
    a = plugin("a", qatspec_modelz=lambda: [model("x")])
    b = plugin("b", qatspec_check=lambda spec, nonsense: [])
    c = plugin("c", qatspec_models=lambda: [model("net")])
    found = Registry([a, b, c])
    assert [f.code for f in found.faults()] == ["QS003", "QS003"]
    assert "did the author mean `qatspec_models`" in found.faults()[0].message
    assert found.model("net").name == "net"


def test_import_errors_are_kept_until_needed():
    entry = SimpleNamespace(
        name="bad", dist=SimpleNamespace(name="d", version="1"),
        load=lambda: exec("import nobody_has_this"),
    )  # fmt: skip
    broken = load_entry_point(entry)
    found = Registry([broken, plugin("a", qatspec_models=lambda: [model("net")])])
    assert found.model("net")
    assert code(found.model, "other").code == "QS001"
    assert code(found.model, "nets").code == "QS301", "a slip of the fingers is nobody's fault"


def test_entry_points_of_another_version_of_qatspec():
    """Whole kinds of records would be missing: every op in float, say."""
    for missing, told in (("qatspec.gone", True), ("nobody_has_this", False)):
        entry = SimpleNamespace(
            name="ops", module="qatspec.gone.plugin",
            dist=SimpleNamespace(name="qatspec", version="1"),
            load=lambda name=missing: importlib.import_module(f"{name}.plugin"),
        )  # fmt: skip
        if told:
            with pytest.raises(DiagnosticError, match="QS001") as caught:
                load_entry_point(entry)
            assert "install qatspec again" in caught.value.diagnostics[0].help
        else:
            assert load_entry_point(entry).fault.code == "QS001"


def test_a_record_that_cannot_be_shown():
    class Mute:
        def __repr__(self):
            raise RuntimeError("mute")

    found = Registry([plugin("a", qatspec_models=lambda: [Mute()])])
    assert code(found.model, "net").code == "QS005"


def test_events_are_isolated_and_reach_everybody():
    seen = []

    def angry(event):
        raise ValueError("no")

    found = Registry(
        [
            plugin("a", qatspec_stage_event=angry),
            plugin("b", qatspec_stage_event=lambda event: seen.append(event.kind)),
            plugin("c", qatspec_stage_event=lambda: seen.append("without arguments")),
        ]
    )
    found.emit(StageEvent(kind="run_started"))
    assert seen == ["run_started", "without arguments"]
    assert [f.code for f in found.faults()] == ["QS004"]


def test_checks_that_raise_are_warnings():
    def angry(spec, registry):
        raise ValueError("no")

    (found,) = Registry([plugin("a", qatspec_check=angry)]).checks(spec=None)
    assert isinstance(found, Diagnostic)
    assert (found.code, found.severity) == ("QS004", "warning")


def test_file_plugins(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from qatspec.api import NO_PARAMS, ModelDef, hookimpl\n"
        "@hookimpl\n"
        "def qatspec_models():\n"
        "    build = lambda params: None\n"
        "    return [ModelDef(name='mine', summary='s', params=NO_PARAMS, build=build)]\n"
    )
    found = Registry([])
    assert code(found.include, tmp_path / "gone.py", "/plugins/0").code == "QS007"
    assert found.names("model") == []
    found.include(path)
    found.include(path)
    assert found.names("model") == ["mine"]
    assert found.provider("model", "mine").dist == "mine.py"


def test_a_file_plugin_that_raises(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('oh')\n")
    wrong = code(Registry([]).include, path)
    assert wrong.code == "QS007"
    assert "oh" in wrong.message
    assert not [name for name in sys.modules if name.startswith("qatspec_file_") and
                sys.modules[name].__file__ == str(path)]  # fmt: skip


@pytest.mark.parametrize("line, fault, raised_at", [
    ("return [1 / 0]", "QS004", 4), ("return [{'name': 'mine'}]", "QS005", None)
])  # fmt: skip
def test_a_file_plugin_whose_hook_fails_is_told_where_the_spec_is_checked(
    tmp_path, line, fault, raised_at
):
    """An installed plugin disturbs no spec without use of it; a file of a spec is part of it."""
    path = tmp_path / "mine.py"
    path.write_text(
        f"from qatspec.api import hookimpl\n@hookimpl\ndef qatspec_models():\n    {line}\n"
    )
    records = Registry([])
    records.include(path)
    (told,) = records.checks(None)
    assert (told.code, told.severity, told.origin) == (fault, "warning", "mine.py")
    assert [note.span.line for note in told.notes] == ([raised_at] if raised_at else [])


def test_a_file_plugin_that_imports_what_is_not_installed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import no_such_package_at_all\n")
    wrong = code(Registry([]).include, path)
    assert wrong.help.startswith("install `no_such_package_at_all` in this environment")


def test_the_source_hash_follows_the_source(tmp_path):
    found = []
    for text in ("x = 1\n", "x = 2\n"):
        path = tmp_path / f"p{len(found)}.py"
        path.write_text(text)
        registry = Registry([])
        registry.include(path)
        found.append(source_sha256(registry.plugins()[0]))
    assert found[0] != found[1]
    assert all(len(h) == 64 for h in found)

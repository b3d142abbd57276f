"""Distributions that are broken each in one way, found by their dist-info as pip leaves it: the
fault names entry point and dist==version, and specs that do not use them are not disturbed."""

from __future__ import annotations

import importlib
import sys

import pytest

from qatspec.cli.main import run
from qatspec.diag import DiagnosticError
from qatspec.registry import registry

IMPORTS = "from qatspec.api import NO_PARAMS, ModelDef, hookimpl\n"
RECORD = "[ModelDef(name={name!r}, summary='s', params=NO_PARAMS, build=lambda params: None)]"


def models(name, hook="qatspec_models"):
    return f"{IMPORTS}@hookimpl\ndef {hook}():\n    return {RECORD.format(name=name)}\n"


#: distribution -> (source of its plugin, the code of its fault, words of the message)
BROKEN = {
    "import-error": ("import nobody_has_this\n", "QS001", "nobody_has_this"),
    "duplicate-name": (models("good_net"), "QS002", "two plugins register"),
    "typo-hook": (models("typo_net", "qatspec_modelz"), "QS003", "mean `qatspec_models`"),
    "raising-hook": (
        f"{IMPORTS}@hookimpl\ndef qatspec_models():\n    raise RuntimeError('oh no')\n",
        "QS004", "oh no",
    ),
    "old-api": (f"qatspec_api = 0\n{models('old_net')}", "QS009", "plugin API 0"),
    "new-api": (f"qatspec_api = 99\n{models('new_net')}", "QS009", "plugin API 99"),
}  # fmt: skip


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(dist, source): a distribution as pip leaves it, in the process's registry."""
    monkeypatch.syspath_prepend(tmp_path)
    installed = []

    def add(dist, source):
        module = f"fake_{dist.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[qatspec]\n{dist}_entry = {module}\n")
        installed.append(module)
        importlib.invalidate_caches()
        registry.cache_clear()

    yield add
    registry.cache_clear()
    for module in installed:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("dist", BROKEN)
def test_named_and_isolated(install, dist):
    source, code, words = BROKEN[dist]
    install("good", models("good_net"))
    install(dist, source)
    names = registry()
    assert names.model("fcos").name == "fcos"
    if code == "QS002":
        with pytest.raises(DiagnosticError) as error:
            names.model("good_net")
        (found,) = error.value.diagnostics
        named = [note.text for note in found.notes]
        assert f"registered by {dist}_entry ({dist}==1.5)" in named
        assert "registered by good_entry (good==1.5)" in named
    else:
        assert names.model("good_net").name == "good_net"
        (found,) = names.faults()
        assert found.origin == f"{dist}_entry ({dist}==1.5)"
    assert found.code == code
    assert words in found.message


@pytest.mark.parametrize("dist", BROKEN)
def test_specs_that_do_not_use_it_are_valid(install, dist, quickstart, capsys):
    install("good", models("good_net"))
    install(dist, BROKEN[dist][0])
    assert run(["validate", str(quickstart)]) == 0
    assert dist not in "".join(capsys.readouterr())


@pytest.mark.parametrize("dist", [d for d in BROKEN if d != "duplicate-name"])
def test_the_commands_name_it(install, dist, capsys):
    install(dist, BROKEN[dist][0])
    assert run(["plugins", "list"]) == 0
    shown = capsys.readouterr()
    assert f"from: {dist}_entry ({dist}==1.5)" in shown.err
    assert run(["plugins", "check", dist]) != 0
    assert f"{dist}_entry" in "".join(capsys.readouterr())


@pytest.mark.parametrize("command", ["check old-names", "show old_net", "list"])
def test_every_command_says_what_an_old_plugin_has_to_change(install, command, capsys):
    old = f"{models('old_net')}\ndef to_onnx(node, writer):\n    return writer.w.node('Relu', [])\n"
    install("old-names", f"qatspec_api = 1\n{old}")
    run(["plugins", *command.split()])
    shown = "".join(capsys.readouterr())
    assert "`QdqWriter.w` is now `QdqWriter.graph`" in shown
    assert "fake_old_names.py:8:" in shown


def test_a_distribution_without_plugins(capsys):
    assert run(["plugins", "check", "qatspek"]) == 1
    assert "did you mean `qatspec`" in capsys.readouterr().err

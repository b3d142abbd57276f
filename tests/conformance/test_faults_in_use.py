"""Plugins whose records look sound and whose code raises: the fault names the plugin, and only a
model that has the op ever meets it."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import Annotation, FusePattern, QuantHandler, hookimpl, lower, prepare
from qatspec.cli import main
from qatspec.diag import DiagnosticError, PluginFault
from qatspec.export import export_qat_onnx
from qatspec.graph.context import GraphContext
from qatspec.registry import Plugin, registry
from qatspec.registry.plugins import load_file
from qatspec.train.loader import Loader
from qatspec.types import DatasetDef, QConfig, Sample

IMAGES = torch.zeros(1, 3, 8, 8)


class Twist(nn.Module):
    canonical_op = "kit_twist"

    def forward(self, x):
        return x.flip(1)


def angry(*given):
    raise ValueError("never")


def annotate(node, context: GraphContext):
    return Annotation()


def handler(**fields) -> QuantHandler:
    made = {"name": "kit_twist", "ops": ("kit_twist",), "annotate": annotate, **fields}
    return QuantHandler(summary="s", **made)


def pattern(**fields) -> FusePattern:
    return FusePattern(
        **{"name": "kit_pair", "summary": "s", "pattern": ("kit_twist", "relu"), **fields}
    )


def plugin(name="angry", **hooks) -> Plugin:
    body = {f"qatspec_{k}": staticmethod(hookimpl(lambda v=v: v)) for k, v in hooks.items()}
    return Plugin(name, f"dist-{name}", "1.2", type(name, (), body)())


@pytest.fixture
def install():
    with ExitStack() as stack:
        yield lambda *found: [stack.enter_context(registry().added(p)) for p in found]


def prepared(*layers):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), *layers)
    return prepare(net, (IMAGES,), qconfig=QConfig())


def settled(*layers):
    found = prepared(*layers)
    found.model(torch.randn(2, 3, 8, 8))
    return found


CASES = {
    "check": (plugin(quant_handlers=[handler()], fuse_patterns=[pattern(check=angry)]), prepared),
    "rewrite": (
        plugin(quant_handlers=[handler()], fuse_patterns=[pattern(rewrite=angry)]), prepared,
    ),
    "annotate": (plugin(quant_handlers=[handler(annotate=angry)]), prepared),
    "no annotation": (plugin(quant_handlers=[handler(annotate=lambda *a: None)]), prepared),
    "lower": (
        plugin(quant_handlers=[handler(lower=angry)]),
        lambda *layers: lower(settled(*layers), (IMAGES,)),
    ),
    "to_onnx": (
        plugin(quant_handlers=[handler(to_onnx=angry)]),
        lambda *layers: export_qat_onnx(settled(*layers), "never-written.onnx"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_blamed_where_the_op_is_and_unnoticed_elsewhere(install, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken, use = CASES[case]
    install(broken)
    with pytest.raises(PluginFault) as caught:
        use(Twist(), nn.ReLU())
    assert caught.value.origin == "angry (dist-angry==1.2)"
    assert "kit_" in str(caught.value)
    use(nn.ReLU())


def test_two_patterns_of_one_name(install):
    install(
        plugin("one", quant_handlers=[handler()], fuse_patterns=[pattern()]),
        plugin("two", fuse_patterns=[pattern(pattern=("kit_twist", "relu6"))]),
    )
    for layers in ((nn.ReLU(),), (Twist(),)):
        warned = [w for w in prepared(*layers).warnings if w.code == "QS002"]
        assert [w.severity for w in warned] == ["warning"]
        named = [note.text for note in warned[0].notes]
        assert named == ["registered by one (dist-one==1.2)", "registered by two (dist-two==1.2)"]
    for act in (nn.ReLU(), nn.ReLU6()):
        with pytest.raises(DiagnosticError) as caught:
            prepared(Twist(), act)
        (found,) = caught.value.diagnostics
        assert (found.code, found.severity) == ("QS002", "error")
        assert [note.text for note in found.notes] == named


def test_two_handlers_of_one_op(install):
    install(
        plugin("one", quant_handlers=[handler()]),
        plugin("two", quant_handlers=[handler(name="kit_other")]),
    )
    assert [w.code for w in prepared(nn.ReLU()).warnings] == ["QS002"]
    with pytest.raises(DiagnosticError) as caught:
        prepared(Twist())
    assert "quant handler for `kit_twist`" in str(caught.value)


def test_two_handlers_of_one_name_for_two_ops(install):
    install(
        plugin("one", quant_handlers=[handler()]),
        plugin("two", quant_handlers=[handler(ops=("kit_turn",))]),
    )
    found = prepared(Twist())
    assert [w.code for w in found.warnings if w.code == "QS002"] == ["QS002"]


def test_a_hook_that_fails_is_a_warning_of_every_prepare(install):
    body = {"qatspec_fuse_patterns": staticmethod(hookimpl(lambda: angry()))}
    install(Plugin("late", "dist-late", "3", type("late", (), body)()))
    (warned,) = (w for w in prepared(nn.ReLU()).warnings if w.code == "QS004")
    assert warned.origin == "late (dist-late==3)"


@pytest.fixture
def from_file(install, tmp_path):
    """A file plugin whose objects raise long after their records were called."""
    path = tmp_path / "late.py"
    path.write_text(
        "class Data:\n"
        "    classes = ('a',)\n"
        "    def __len__(self):\n"
        "        return 2\n"
        "    def sample(self, index, rng):\n"
        "        return 1 / 0\n"
    )
    found = load_file(path)
    install(found)
    return found.module


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_whose_sample_raises(from_file, workers):
    loader = Loader(from_file.Data(), batch_size=1, seed=0, workers=workers)
    with pytest.raises(DiagnosticError) as caught:
        next(loader.ordered())
    (found,) = caught.value.diagnostics
    assert (found.code, found.origin) == ("QS004", "late.py")
    assert "ZeroDivisionError" in found.message and "`sample` in late.py (line 6)" in found.message
    assert "1 / 0" in str(caught.value.__cause__), "--debug shows where"
    assert main._end(caught.value) == main.PLUGIN


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            [np.zeros((3, 4, 4)), np.zeros((3, 4, 4))],
            "(3, 4, 4) of float64; expected a Sample",
        ),
        ([np.zeros((4, 4), np.float32)] * 2, "(4, 4) of float32"),
        (["a.png", "b.png"], "a str"),
        (
            [np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 5), np.float32)],
            "images of (3, 4, 4) and (3, 4, 5) in one batch",
        ),
    ],
)
def test_a_data_set_whose_examples_make_no_batch(install, images, said, workers):
    class Data:
        classes = ("a",)

        def __len__(self):
            return 2

        def sample(self, index, rng):
            return Sample(image=images[index], target={})

    definition = DatasetDef(
        name="odd",
        summary="images that fit no batch",
        params={"type": "object"},
        open=lambda params, cache, base: Data(),
        fingerprint=lambda params, base: "",
        metric="AP",
    )
    install(plugin("odd", datasets=[definition]))
    loader = Loader(Data(), batch_size=2, seed=0, workers=workers, definition=definition)
    with pytest.raises(DiagnosticError) as caught:
        next(loader.ordered())
    (found,) = caught.value.diagnostics
    assert "data set `odd`" in found.message and said in found.message
    assert found.origin is not None and main._end(caught.value) == main.PLUGIN


def test_the_last_door_blames_the_plugin_that_an_exception_came_through(from_file, capsys):
    for call, code in ((lambda: from_file.Data().sample(0, None), 3), (lambda: 1 / 0, 4)):
        with pytest.raises(ZeroDivisionError) as caught:
            call()
        assert main._end(caught.value) == code
    assert "from: late.py\n" in capsys.readouterr().err

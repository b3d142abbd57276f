"""`qatspec check` on the toy project."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from qatspec.cli.after import show_rows
from qatspec.cli.check import print_decisions
from qatspec.graph import Decision, DecisionKind
from qatspec.prepare.listing import Row
from qatspec.prepare.passes import PASSES
from qatspec.types import QSpec


def test_the_table_names_rule_lines_tails_and_model_lines(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 0, done.stderr
    assert "stage qat, march bayes, prepared: the whole model" in done.stdout
    assert "int32 tail" in done.stdout
    assert "toy_plugin.py:" in done.stdout
    line = next(
        i for i, text in enumerate(project.spec.read_text().splitlines(), 1)
        if "qconfig: horizon_calibrated" in text
    )  # fmt: skip
    assert f"toy.yaml:{line}" in done.stdout


@pytest.mark.parametrize("width", [80, 120, 160, 1000])
def test_no_width_cuts_what_is_essential(width: int) -> None:
    decisions = [
        Decision(
            node=f"backbone:stages_{i}_0_depthwise_0", module="m",
            ops=("conv2d", "batch_norm2d", "relu"),
            kind=DecisionKind.OBSERVED, op="conv2d", activation=QSpec(), weight=QSpec(),
            fake_quant="x", source=f"my_package/networks/net.py:{i}", rule="/a",
            reason="observed; not fused: its other operand `layers_0_up_1` is computed later",
        )
        for i in range(3)
    ]  # fmt: skip
    console = Console(width=width, file=io.StringIO(), record=True)
    print_decisions(decisions, ["/a"], console)
    shown = console.export_text()
    for decision in decisions:
        assert decision.node in shown and decision.source in shown
    words = shown.split()
    assert words.count("qint8") == 6 and words.count("conv2d") == 3 and words.count("later") == 3
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width


def test_another_stage_and_the_model(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--stage", "calibration")
    assert "stage calibration" in done.stdout
    assert "FixedActivationFakeQuantize(" not in done.stdout
    done = project.call("check", "toy.yaml", "--allow-code", "--print-model")
    assert "_activation_post_process_0): FixedActivationFakeQuantize(" in done.stdout
    done = project.call("check", "toy.yaml", "--allow-code", "--stage", "float")
    assert done.returncode == 2


def test_a_picture_is_written(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--picture", "graph.svg")
    assert done.returncode == 0, done.stderr
    text = (project.folder / "graph.svg").read_text()
    assert text.startswith("<svg") and "toy.yaml:" in text and "#E69F00" in text


def test_as_json(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--format", "json")
    data = json.loads(done.stdout)
    assert data["format"] == 1 and data["modules"] == [""]
    tail = next(d for d in data["decisions"] if d["reason"] == "int32 tail")
    assert tail["rule"] == "/stages/qat/qconfig" and tail["rule_at"].startswith("toy.yaml:")
    assert tail["fake_quant"] in data["tails"]


def test_warnings_point_at_the_rule(project) -> None:
    project.edit(
        "    qconfig: horizon_calibrated\n",
        '    qconfig: {"": horizon_calibrated, module_name: {nowhere: null}}\n',
    )
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 0
    assert "QS312" in done.stderr and "nowhere" in done.stderr
    assert "toy.yaml:" in done.stderr
    data = json.loads(project.call("check", "toy.yaml", "--allow-code", "--format", "json").stdout)
    assert [w["code"] for w in data["warnings"]] == ["QS312"]
    assert project.call("check", "toy.yaml", "--allow-code", "--strict").returncode == 1


def test_a_tail_that_is_none_is_an_error_at_its_line(project) -> None:
    plugin = project.folder / "toy_plugin.py"
    before = "return self.head(self.stem(images))"
    assert before in plugin.read_text()
    plugin.write_text(plugin.read_text().replace(before, f"{before} * 2.0"))
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 1
    assert "QS604" in done.stderr and "`mul`" in done.stderr and "Traceback" not in done.stderr


def _warnings(project, *arguments: str) -> list[dict]:
    done = project.call("check", "toy.yaml", "--allow-code", "--format", "json", *arguments)
    return json.loads(done.stdout)["warnings"]


def test_what_the_march_cannot_run_is_told_before_training(project) -> None:
    assert _warnings(project) == []
    plugin = project.folder / "toy_plugin.py"
    before = "nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)"
    text = plugin.read_text()
    assert before in text
    plugin.write_text(text.replace(before, before.replace("width, 3,", "width, 41,")))
    plugin.write_text(plugin.read_text().replace("padding=1, bias", "padding=20, bias", 1))
    found = _warnings(project)
    assert [w["code"] for w in found] == ["QS801"]
    assert "stem.0" in found[0]["message"] and found[0]["at"] == "/stages/qat/qconfig"
    assert project.call("check", "toy.yaml", "--allow-code", "--strict").returncode == 1


def test_what_has_no_integer_form_is_told_before_training(project) -> None:
    plugin = project.folder / "toy_plugin.py"
    before = "return self.head(self.stem(images))"
    plugin.write_text(
        plugin.read_text().replace(before, "return self.head(self.stem(images).softmax(0))")
    )
    found = {w["code"]: w for w in _warnings(project)}
    assert "QS701" in found and "QS608" not in found  # one op, one report
    assert "softmax" in found["QS701"]["message"] and "another dim" in found["QS701"]["help"]
    done = project.call("check", "toy.yaml", "--allow-code")
    assert "convert would refuse this model" in done.stdout
    assert done.returncode == 1
    project.edit(
        "quantize: {prepare: horizon, quantize_output: false}",
        "quantize: {modules: {stem: {prepare: horizon}}}",
    )
    assert _warnings(project) == []  # softmax runs on the host


@pytest.mark.parametrize("name", [step.name for step in PASSES])
def test_after_a_pass_the_graph_is_printed_as_it_stands_then(project, name: str) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--after", name)
    assert done.returncode == 0, done.stderr
    number = [step.name for step in PASSES].index(name) + 1
    assert f"after pass {number} of {len(PASSES)}, {name}: " in done.stdout
    assert ("toy_plugin.py:" in done.stdout) is (number > 1)
    assert ("fused into" in done.stdout) is (name in _names_from("fuse"))
    assert ("fake_quant" in done.stdout) is (name in _names_from("insert"))
    assert ("toy.yaml:" in done.stdout) is (name in _names_from("rules"))
    assert ("batch norm folded" in done.stdout) is (name in _names_from("fold"))
    assert "would refuse" not in done.stdout


def _names_from(first: str) -> list[str]:
    names = [step.name for step in PASSES]
    return names[names.index(first) :]


def test_after_an_unknown_pass_the_passes_are_listed(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--after", "fused")
    assert done.returncode == 2 and not done.stdout
    assert "no pass is called `fused`; did you mean `fuse`?" in done.stderr
    listed = [line.split()[0] for line in done.stderr.partition("in order:\n")[2].splitlines()]
    assert listed == [step.name for step in PASSES]
    for fixed in ("fuse", listed[-1]):
        assert project.call("check", "toy.yaml", "--allow-code", "--after", fixed).returncode == 0


def test_after_a_pass_as_json(project) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--after", "rules", "--format", "json")
    data = json.loads(done.stdout)
    assert (data["format"], data["pass"], data["stage"]) == (1, "rules", "qat")
    (graph,) = data["graphs"]
    conv = next(row for row in graph["rows"] if row["op"] == "conv2d")
    assert conv["rule"] == "/stages/qat/qconfig" and conv["result"].startswith("float32 (2, ")


@pytest.mark.parametrize("option", [["--print-model"], ["--picture", "x.svg"]])
def test_after_excludes_what_shows_the_prepared_model(project, option: list[str]) -> None:
    done = project.call("check", "toy.yaml", "--allow-code", "--after", "fuse", *option)
    assert done.returncode == 2 and "--after" in done.stderr
    assert not (project.folder / "x.svg").exists()


@pytest.mark.parametrize("width", [60, 80, 120, 200, 1000])
def test_a_graph_loses_nothing_at_any_width(project, width: int) -> None:
    rows = [
        Row(
            node=f"stages_{i}_0_depthwise_0", op="conv2d",
            operands=f"stages_{i}_0_expand_0_activation_post_process_0, [1, 2]",
            result="float32 (2, 16, 64, 64)", module=f"stages.{i}.0.depthwise.0",
            code=f"my_package/networks/net.py:{i}", notes="observed, quantized weight",
            rule="/stages/qat/qconfig",
        )
        for i in range(3)
    ]  # fmt: skip
    console = Console(width=width, file=io.StringIO(), record=True)
    show_rows(rows, project.load(), console)
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown
    packed = "".join(shown.split())
    for row in rows:
        for cell in (row.node, row.operands, row.result, row.module, row.code):
            assert width in (120, 200) or "".join(cell.split()) in packed
    assert shown.count("toy.yaml:") == 3 and packed.count("quantized") == 3

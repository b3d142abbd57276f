"""`qatspec perf`: figures of every march before any training, and of a compiled file."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from qatspec.cli import main
from qatspec.registry import registry
from tests.digits import HEAD

SPEC = (
    HEAD
    + """\
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  qat:
    trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}
    qconfig: horizon_qat
  convert: {}
  compile: {opt: O1}
"""
)


@pytest.fixture
def perf(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)

    def perf(*arguments):
        code = main.run(["perf", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return perf


def test_every_march_is_modelled_before_any_training(perf):
    code, out, _ = perf("spec.yaml", "--march", "all", "--format", "json")
    reports = json.loads(out)
    names = registry().names("march")
    assert set(reports) == {n for n in names if registry().march(n).capabilities.hardware}
    assert code == 0 and list(Path().iterdir()) == [Path("spec.yaml")]
    for name in ("bernoulli2", "bayes", "bayes_e"):
        assert reports[name]["BPU march"] == name
        assert reports[name]["latency (us)"] > 0
        assert (
            reports[name]["latency error"] == registry().march(name).capabilities.hardware.accuracy
        )
    slow, fast = (reports[name]["latency (us)"] for name in ("bernoulli2", "bayes"))
    assert slow > fast


def test_decoding_and_suppression_are_counted(perf):
    """336 points of 10 classes: every number once and what follows from it, and 100 boxes that stay
    beside each of 1,800 candidates."""
    numbers = 2 * 336 * (10 + 4 + 1) + 5 * 1800 + 100 * 1800 * 5
    elements = registry().march("bayes").capabilities.host.elements_per_us
    _, out, _ = perf("spec.yaml")
    assert f"and at most {numbers / elements / 1e3:.3f} ms to make predictions of them" in out


def test_a_march_that_refuses_says_why(perf):
    code, out, _ = perf(
        "spec.yaml", "--march", "bernoulli2", "--set", "model.params.num_classes=5000"
    )
    assert code == 1
    assert "bernoulli2" in out and "QS801" in out and "is above 4096" in out


SILU = """\
qatspec: 1
name: silu
march: bernoulli2
model:
  type: yolo
  params: {num_classes: 2, width: 0.125, depth: 0.01, activation: silu, strides: [8, 16],
           head: {channels: 64, convs: 0}}
  input: {size: [32, 32]}
data:
  train: {type: digits_detection, params: {split: train, images: 2, size: 32}}
  val: {type: digits_detection, params: {split: val, images: 2, size: 32}}
quantize:
  modules: {backbone: {prepare: horizon}}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  qat: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}, qconfig: horizon_qat}
  convert: {}
  compile: {opt: O1}
"""


def test_what_the_cpu_runs_has_a_price_and_strict_refuses_it(perf):
    """SiLU on X3: the warning says which layers, why, and their time; --strict ends in 1."""
    Path("silu.yaml").write_text(SILU)
    code, out, err = perf("silu.yaml")
    assert code == 0 and " ms" in out
    assert "QS813" in err and "silu.yaml:3:8" in err and "on bernoulli2 the CPU beside" in err
    assert "`backbone.stem.2`" in err and "tables are fitted to it on bayes alone" in err
    assert re.search(r"\d+ us \(\d+\.\d% of model\)", err)
    strict, out, told = perf("silu.yaml", "--strict")
    assert strict == 1 and told == err and " ms" in out
    assert perf("silu.yaml", "--strict", "--march", "bayes")[0] == 0  # a table of the chip
    relu = ("--set", "model.params.activation=relu")  # what the reason says
    assert perf("silu.yaml", "--strict", *relu)[0] == 0


def test_a_compiled_file_has_its_figures_and_a_trace(perf, tmp_path):
    from qatspec.api import compile as compile_program
    from tests.unit.backend.conftest import residual

    artifact = compile_program(residual(march="bayes"), "bayes", verify=False)
    artifact.save("net.bin")
    code, out, _ = perf("net.bin", "--trace", "trace.json")
    assert code == 0 and "bayes" in out and " ms" in out
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    rows = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert list(rows.values()) == ["core 0", "loads", "stores"]
    commands = [e for e in events if e["ph"] == "X"]
    end = max(e["ts"] + e["dur"] for e in commands)
    code, out, _ = perf("net.bin", "--format", "json")
    assert end == pytest.approx(json.loads(out)["latency (us)"], abs=0.01)
    for tid in rows:  # a unit does one thing at a time
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in commands if e["tid"] == tid)
        assert all(a[1] <= b[0] + 1e-3 for a, b in pairwise(spans))


def test_the_page_of_a_file_has_its_charts_and_why_values_leave_the_chip(perf):
    from qatspec.api import compile as compile_program
    from tests.unit.backend.conftest import Net

    made = Net("spilling", "bernoulli2")
    x = made.conv(made.input(3, 448, 448), 16)
    for _ in range(2):
        x = made.conv(x, 24)
    compile_program(made.finish(x), "bernoulli2", opt="O1", verify=False).save("net.bin")
    code, _, err = perf("net.bin", "--page", "page.html")
    assert code == 0, err
    page = Path("page.html").read_text("utf-8")
    body, data = page.split('<script type="application/json" id="charts">')
    drawn = json.loads(data.partition("</script>")[0])
    assert len(drawn) == body.count('<div class="chart"') == 4
    assert all(word in body for word in ("memory on chip over time", "roofline", 'id="layers"'))
    assert "KB, the memory on chip 1,024" in body and "conv_3" in body
    assert body.count('class="sortable"') == 2 and 'data-table="layer-table"' in body
    assert "default-src 'none'" in body and not [w for w in ("src=", "http:") if w in body]
    stacked = next(c for c in drawn.values() if "layer" in c and "data" in c["layer"][0]
                   and "what" in c["layer"][0]["data"]["values"][0])  # fmt: skip
    rows = stacked["layer"][0]["data"]["values"]
    assert max(row["KiB"] for row in rows) > 0
    again = perf("net.bin", "--page", "again.html")
    assert again[0] == 0 and Path("again.html").read_text("utf-8") == page


def test_options_that_do_not_fit_the_source_are_refused(perf):
    assert perf("spec.yaml", "--page", "page.html")[0] == 2
    assert perf("spec.yaml", "--trace", "trace.json")[0] == 2
    assert perf("net.bin", "--march", "bayes")[0] == 2


def advise(capsys, *arguments):
    code = main.run(["advise", "spec.yaml", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_advice_names_what_to_change_with_its_line(perf, capsys):
    wide = ("--set", "model.params.backbone.stem=20", "--tries", "3")
    code, out, _ = advise(capsys, *wide, "--format", "json")
    told = json.loads(out)
    assert code == 0 and told["march"] == "bayes" and 0 < told["tried"] <= 3
    assert told["costs"][0]["source"].startswith("qatspec_vision/")
    assert told["advice"] and all(row["gain"] > 0 for row in told["advice"])
    assert all(row["before"] - row["after"] == row["gain"] for row in told["advice"])
    gains = [row["gain"] for row in told["advice"]]
    assert gains == sorted(gains, reverse=True)
    code, out, _ = advise(capsys, *wide)
    assert code == 0 and "What costs most" in out
    assert all(row["what"] in out for row in told["advice"])


def test_advice_for_a_march_that_refuses_or_has_no_model_of_time(perf, capsys):
    code, _, err = advise(capsys, "--march", "bernoulli2", "--set", "model.params.num_classes=5000")
    assert code == 1 and "QS801" in err and "is above 4096" in err
    code, _, err = advise(capsys, "--march", "onnxruntime", "--set", "stages.compile={}")
    assert code == 1 and "QS805" in err


def test_variables_of_data_need_not_be_set(perf, monkeypatch):
    """`perf` opens no data, so it needs no name of its folder."""
    monkeypatch.delenv("NO_SUCH_ROOT", raising=False)
    text = Path("spec.yaml").read_text()
    Path("spec.yaml").write_text(f"{text}vars: {{root: '${{env:NO_SUCH_ROOT}}'}}\n")
    code, out, err = perf("spec.yaml", "--march", "bayes")
    assert (code, err) == (0, "") and "ms" in out

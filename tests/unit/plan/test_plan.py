"""Digests: what changes them and what does not; and what a plan would do in a work directory."""

import hashlib
import json
from dataclasses import replace

import pytest

from qatspec.diag import DiagnosticError, PluginFault
from qatspec.diag.codes import QS101
from qatspec.hookspecs import hookimpl
from qatspec.plan import RECORD_FORMAT, device_kind, plan_data, plan_table, resolve, status
from qatspec.plan.changes import Change
from qatspec.registry import Plugin, Registry
from qatspec.spec import load
from qatspec.types import NO_PARAMS, DatasetDef
from tests.diagnostics.plugin import Fake, fake_registry

REGISTRY = fake_registry()

BASE = """\
qatspec: 1
name: digits
march: bayes
model: {type: net, params: {num_classes: 10}, input: {size: [64, 32]}}
data:
  train: {type: digits, batch_size: 8}
  calibration: {type: digits, batch_size: 4}
  val: {type: digits, params: {split: val}}
stages:
  float:
    trainer: {epochs: 3, optimizer: {type: sgd, lr: 0.01}}
  calibration: {trainer: {steps: 2}, qconfig: horizon_calibration}
  qat:
    trainer: {epochs: 1, optimizer: {type: sgd, lr: 1e-3}}
    qconfig: {"": horizon_calibrated, module_name_regex: {a: horizon_qat, b: horizon_calibrated}}
  convert: {}
  compile: {}
"""
ALL = ["float", "calibration", "qat", "convert", "compile"]


@pytest.fixture
def plan(tmp_path):
    def plan(*overrides, text=BASE, registry=REGISTRY, name="spec.yaml", **machine):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return resolve(load(path, overrides, registry=registry), registry=registry, **machine)

    return plan


def changed(one, two):
    return [a.name for a, b in zip(one.steps, two.steps, strict=True) if a.digest != b.digest]


def test_steps_inputs_and_outputs(plan):
    steps = plan().steps
    assert [s.name for s in steps] == ALL
    assert [s.inputs for s in steps] == [(), ("float",), ("calibration",), ("qat",), ("convert",)]
    assert steps[3].outputs == (
        "convert/digits-qat.onnx", "convert/digits-converted.onnx", "convert/digits.program",
    )  # fmt: skip
    assert "float/float-checkpoint-best.pth.tar" in steps[0].outputs


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("seed=1", ALL),
        ("march=bernoulli2", ALL[3:]),
        ("model.input.scale=0.5", ALL[1:]),
        ("model.params.width=2", ALL),
        ("data.train.batch_size=9", ALL),
        ("data.val.batch_size=9", ALL[1:]),
        ("data.val.params.split=train", ALL[1:]),
        ("data.calibration.batch_size=9", ALL[1:]),
        ("stages.float.trainer.epochs=4", ALL),
        ("stages.calibration.trainer.steps=3", ALL[1:]),
        ("stages.qat.trainer.optimizer.lr=2e-3", ALL[2:]),
        ("stages.qat.batch_size_per_gpu=4", ALL[2:]),
        ("quantize.quantize_output=false", ALL[1:]),
        ("stages.convert.opset=18", ALL[3:]),
        ("stages.compile.cores=2", ALL[4:]),
        ("name=other", ALL[3:]),
    ],
)
def test_a_value_changes_exactly_the_steps_that_depend_on_it(plan, override, steps):
    assert changed(plan(), plan(override)) == steps


@pytest.mark.parametrize(
    "override",
    [
        "data.train.workers=4",
        "stages.float.trainer.checkpoint_steps=7",
        "seed=0",
        "model.params.width=1",
        "model.params.width=1.0",
        "model.input.mean=128.0",
        "stages.convert.opset=null",
        "stages.float.solver={allow_miss: false}",
        "stages.qat.solver={}",
        "stages.compile.opt=O3",
        "stages.float.trainer.scheduler={type: constant}",
        "data.val.params.split=val",
    ],
)
def test_what_changes_nothing(plan, override):
    one, two = plan(), plan(override)
    assert changed(one, two) == []
    assert one.digest == two.digest


def test_place_order_of_keys_and_variables_change_nothing(plan):
    lines = BASE.splitlines(keepends=True)
    moved = "".join([*lines[:2], "vars: {n: 3, unused: 1}\n", lines[4], *lines[5:8], lines[3],
                     lines[2], *lines[8:]]).replace("epochs: 3", "epochs: '${vars.n}'")  # fmt: skip
    two = plan(text=moved, name="elsewhere/deep/spec.yaml")
    assert changed(plan(), two) == []
    assert plan().digest == two.digest


def test_the_order_of_regex_rules_counts(plan):
    swapped = BASE.replace(
        "{a: horizon_qat, b: horizon_calibrated}", "{b: horizon_calibrated, a: horizon_qat}"
    )
    assert changed(plan(), plan(text=swapped)) == ["qat", "convert", "compile"]


def test_plugin_load_order_changes_nothing(plan):
    other = Plugin("other", "other", "1", type("Other", (), {})())
    one = Registry([Plugin("fake", "fake-plugin", "1.0", Fake()), other])
    two = Registry([other, Plugin("fake", "fake-plugin", "1.0", Fake())])
    assert changed(plan(registry=one), plan(registry=two)) == []


def test_the_machine_counts_where_bytes_depend_on_it(plan):
    assert changed(plan(), plan(device="cuda")) == ALL  # by their inputs
    steps = plan(threads=2).steps
    assert steps[0].keys["threads"] == 2
    assert "threads" not in steps[3].keys


def test_another_version_of_a_plugin_counts(plan):
    newer = Registry([Plugin("fake", "fake-plugin", "1.1", Fake())])
    assert changed(plan(), plan(registry=newer)) == ALL


def test_a_calibration_role_written_out_means_the_same(plan):
    without = BASE.replace("  calibration: {type: digits, batch_size: 4}\n", "")
    written = BASE.replace("batch_size: 4", "batch_size: 8")
    assert changed(plan(text=without), plan(text=written)) == []


def _with_fingerprint(function):
    class Data:
        @hookimpl
        def qatspec_datasets(self):
            return [
                DatasetDef(
                    name="own",
                    summary="s",
                    params=NO_PARAMS,
                    open=print,
                    fingerprint=function,
                    metric="AP",
                )
            ]

    return fake_registry(Plugin("data", "data-plugin", "2", Data()))


def test_the_fingerprint_of_the_data_counts(plan):
    text = BASE.replace("  val: {type: digits, params: {split: val}}", "  val: {type: own}")
    one = plan(text=text, registry=_with_fingerprint(lambda params, base: "a"))
    two = plan(text=text, registry=_with_fingerprint(lambda params, base: "b"))
    assert changed(one, two) == ALL[1:]  # by their inputs
    assert [s.name for s, t in zip(one.steps, two.steps, strict=True)
            if s.evaluation != t.evaluation] == ALL[:4]  # fmt: skip


def test_missing_data_stands_at_the_role_that_names_it(plan):
    def missing(params, base):
        raise QS101.error("no data")

    text = BASE.replace("  val: {type: digits, params: {split: val}}", "  val: {type: own}")
    with pytest.raises(DiagnosticError) as error:
        plan(text=text, registry=_with_fingerprint(missing))
    assert error.value.diagnostics[0].span.line == 8


def test_a_fingerprint_that_raises_is_the_plugins_fault(plan):
    def broken(params, base):
        raise ValueError("oh")

    text = BASE.replace("  val: {type: digits, params: {split: val}}", "  val: {type: own}")
    with pytest.raises(PluginFault) as error:
        plan(text=text, registry=_with_fingerprint(broken))
    assert error.value.origin == "data (data-plugin==2)"


def record(workdir, plan, *names):
    for step in plan.steps:
        if step.name in names:
            for output in step.outputs:
                path = workdir / output
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(output.encode())
            made = {"format": RECORD_FORMAT, "digest": step.digest, "keys": dict(step.keys),
                    "evaluation": step.evaluation, "judged_by": dict(step.judged_by),
                    "metrics": {}}  # fmt: skip
            made["outputs"] = {
                output: {
                    "kind": "checkpoint",
                    "size": len(output),
                    "sha256": hashlib.sha256(output.encode()).hexdigest(),
                }
                for output in step.outputs
            }
            (workdir / step.name / "step.json").write_text(json.dumps(made))


def test_status_says_why(plan, tmp_path):
    work = tmp_path / "work"
    before = plan()
    record(work, before, "float", "calibration", "qat")
    assert [s.state for s in status(before, work)] == ["cached", "cached", "cached", "run", "run"]
    after = plan("stages.qat.trainer.optimizer.lr=2e-3")
    states = status(after, work)
    assert [s.state for s in states] == ["cached", "cached", "changed", "run", "run"]
    (change,) = states[2].because
    assert change.text == "/stages/qat/trainer/optimizer/lr: 0.001 -> 0.002"
    assert (change.span.file, change.span.line) == ("--set", 1)
    table = plan_table(after, states)
    assert "--set:1  /stages/qat/trainer/optimizer/lr" in table


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_narrow_table_cuts_no_name(plan, tmp_path, width):
    before = plan()
    record(tmp_path, before, *ALL)
    pointer = "stages.qat.qconfig.module_name_regex"
    after = plan(f"{pointer}.a=null", f"{pointer}.backbone_of_a_long_name=null", "seed=7")
    states = [
        replace(state, kept_as=f".kept/{state.step.name}-0123456789abcdef")
        for state in status(after, tmp_path)
    ]
    states[0] = replace(states[0], does="", because=(), kept_as="")  # a step without a word
    lines = plan_table(after, states, width).splitlines()
    assert [line for line in lines if len(line) > width and " " in line.strip()] == []
    words = plan_table(after, states).split()
    assert " ".join(lines).split() == words  # in the same order, and none is broken
    assert all(lines[2:])


def test_where_the_old_result_is_kept_stands_behind_all_reasons(plan, tmp_path):
    record(tmp_path, plan(), "float")
    (state,) = status(plan("stages.float.trainer.epochs=4", "seed=7"), tmp_path)[:1]
    table = plan_table(plan(), [replace(state, kept_as=".kept/float-0123")])
    assert len(state.because) > 1
    assert table.endswith("; the old one is kept as .kept/float-0123")
    because = tuple(Change("key", f"reason {index}") for index in range(5))
    tables = [plan_table(plan(), [replace(state, because=because[:n])]) for n in (3, 4, 5)]
    assert [table.count("and reason") for table in tables] == [2, 3, 2]
    assert "and 2 more changes" in tables[2]


def test_a_plan_of_cached_steps_has_no_column_of_deeds(plan, tmp_path):
    record(tmp_path, plan(), *ALL)
    states = status(plan(), tmp_path)
    assert all("what run does" not in plan_table(plan(), states, w) for w in (None, 40, 200))
    assert plan_table(plan(), states).splitlines()[2].split() == [
        "step", "state", "digest", "from",
    ]  # fmt: skip
    assert "what run does" in plan_table(plan(), status(plan("seed=7"), tmp_path))


class Sketch:
    """A march that is no more than a sketch of its chip."""

    @hookimpl
    def qatspec_marches(self):
        (march, *_) = Fake().qatspec_marches()
        return [replace(march, name="sketch", chips=(), experimental="its limits are assumed")]


def test_an_experimental_march_is_named_as_one(plan, tmp_path):
    registry = fake_registry(Plugin("sketch", "sketch", "1", Sketch()))
    states = lambda planned: status(planned, tmp_path)  # noqa: E731
    sketched = plan("march=sketch", registry=registry)
    table = plan_table(sketched, states(sketched))
    assert "\nsketch is experimental: its limits are assumed\n" in table
    assert plan_data(sketched, states(sketched))["experimental"] == "its limits are assumed"
    sure = plan(registry=registry)
    assert "experimental" not in plan_table(sure, states(sure))
    assert "experimental" not in plan_data(sure, states(sure))


def test_status_tells_what_judges_anew(plan, tmp_path):
    record(tmp_path, plan(), *ALL)
    states = status(plan("data.val.batch_size=4"), tmp_path)
    assert states[0].state == "judge"
    (change,) = states[0].because
    assert change.text == "/data/val/batch_size: 1 -> 4" and change.span.file == "--set"


def test_a_record_of_another_version_is_named(plan, tmp_path):
    record(tmp_path, plan(), "float")
    path = tmp_path / "float" / "step.json"
    path.write_text(path.read_text().replace(f'"format": {RECORD_FORMAT}', '"format": 1'))
    with pytest.raises(DiagnosticError, match="QS935"):
        status(plan(), tmp_path)


def test_a_batch_size_is_one_wherever_it_is_written(plan):
    one = plan("data.train.batch_size=4")
    two = plan("stages.float.batch_size_per_gpu=4", "stages.qat.batch_size_per_gpu=4")
    assert changed(one, two) == []
    assert changed(plan(), one) == ALL


def test_status_follows_inputs(plan, tmp_path):
    record(tmp_path, plan(), *ALL)
    states = status(plan("stages.calibration.trainer.steps=3"), tmp_path)
    assert [s.state for s in states] == ["cached", *["changed"] * 4]
    assert [c.text for c in states[2].because] == [
        "calibration runs again, unless its result is the same"
    ]


def test_a_lost_file_and_a_damaged_record(plan, tmp_path):
    found = plan()
    record(tmp_path, found, "float", "calibration")
    (tmp_path / found.steps[0].outputs[0]).unlink()
    (tmp_path / "calibration" / "step.json").write_text('{"format": 2, "digest": ')
    states = status(found, tmp_path)
    assert [s.state for s in states][:2] == ["run", "run"]
    assert "is missing or damaged" in states[0].because[0].text


def test_json_has_a_format_and_is_stable(plan, tmp_path):
    one, two = plan(), plan()
    text = json.dumps(plan_data(one, status(one, tmp_path)))
    assert text == json.dumps(plan_data(two, status(two, tmp_path)))
    loaded = json.loads(text)
    assert loaded["format"] == 1
    assert [s["name"] for s in loaded["steps"]] == ALL
    assert str(tmp_path) not in text, "digests and plans never hold paths"


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_plan_names_the_device_that_run_picks(asked):
    from qatspec.train.process import pick_device

    assert device_kind(asked) == pick_device(asked).type


def test_device_kinds(monkeypatch):
    assert [device_kind(name) for name in ("cuda", "cuda:1")] == ["cuda", "cuda"]
    with pytest.raises(DiagnosticError, match="QS907"):
        device_kind("gpu")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.9.0+cu128")
    monkeypatch.setattr("pathlib.Path.glob", lambda path, kind: iter([path / kind]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_kind("auto") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_kind("auto") == "cpu"


def test_processes_and_device_count(plan):
    one, two, gpu = plan(), plan(nproc=2), plan(device="cuda")
    assert changed(one, two) == changed(one, gpu) == ALL


def test_weights_count_by_their_bytes(plan, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"one")
    (tmp_path / "v.pth").write_bytes(b"one")
    solver = "stages.float.solver.weights"
    with_file = plan(f"{solver}=w.pth")
    assert changed(plan(), with_file) == ALL
    assert changed(with_file, plan(f"{solver}=v.pth")) == []
    mapped = plan(f"{solver}=w.pth", "stages.float.solver.key_map=by_order")
    assert changed(with_file, mapped) == ALL
    (tmp_path / "w.pth").write_bytes(b"two")
    assert changed(with_file, plan(f"{solver}=w.pth")) == ALL
    with pytest.raises(DiagnosticError, match="cannot read the weights") as caught:
        plan(f"{solver}=gone.pth")
    assert caught.value.diagnostics[0].code == "QS905"


@pytest.mark.parametrize(
    ("pairs", "code"),
    [('[["(a", "b"]]', "QS310"), ('[["a", "\\\\1"]]', "QS310"), ('[["(a+)+$", "b"]]', "QS311")],
)
def test_key_maps_that_are_none(plan, pairs, code):
    with pytest.raises(DiagnosticError) as caught:
        plan(f"stages.float.solver.key_map={pairs}")
    assert caught.value.diagnostics[0].code == code

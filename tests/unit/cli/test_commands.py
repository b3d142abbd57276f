"""The front half's commands: what they print and how they end (rule: exit codes)."""

import json
import shutil
import sys
import types
from pathlib import Path

import click
import pytest

from qatspec.cli import main
from qatspec.diag import InternalError, PluginFault
from tests.digits import HEAD

SPEC = (
    HEAD
    + """\
quantize:
  modules:
    backbone: {prepare: horizon}
    head:
      quantize_input: false
      qconfig:
        "": horizon_calibrated
        object_type: {torch.nn.Conv2d: null}
        module_name: {cls: horizon_qat}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  calibration: {trainer: {steps: 1}, qconfig: horizon_calibration}
  qat: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}, qconfig: horizon_calibrated}
"""
)


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return "spec.yaml"


@pytest.mark.parametrize("command", ["validate", "plan", "explain"])
def test_quiet_prints_errors_alone(run, spec, command):
    line = [command, spec, *(["backbone"] if command == "explain" else [])]
    code, out, err = run(*line)
    assert (code, err) == (0, "") and out
    assert run(*line, "--quiet") == run("--quiet", *line) == (0, "", "")
    code, out, err = run(*line, "--quiet", "--set", "march=bays")
    assert (code, out) == (1, "") and "error[QS301]" in err


def test_quiet_takes_nothing_from_what_is_for_programs(run, spec):
    for line in (["plan", spec, "--json"], ["show", spec], ["schema"]):
        assert run(*line, "--quiet") == run(*line)


@pytest.mark.parametrize("line", [
    ["explain", "spec.yaml", "backbone"], ["plugins", "list"], ["validate", "spec.yaml"],
    ["explain", "QS201"], ["diff", "spec.yaml", "other.yaml"],
    ["plugins", "new", "my-thing", "--kind", "model", "--output", "a-long-folder/" * 5],
])  # fmt: skip
def test_a_terminal_breaks_no_word(run, spec, monkeypatch, line):
    """The words are those that a file gets; a line that is wider is a word or a command."""
    Path("other.yaml").write_text(SPEC.replace("horizon_qat", "horizon_calibrated"))
    code, wide, _ = run(*line)
    if line[1] == "new":
        shutil.rmtree("a-long-folder")
    monkeypatch.setattr("qatspec.cli.output.terminal_width", lambda **_: 60)
    again, narrow, _ = run(*line)
    assert (code, wide.split()) == (again, narrow.split())
    lines = [shown for shown in narrow.splitlines() if len(shown) > 60]
    assert all(len(shown.split()) == 1 or "next: " in shown for shown in lines), lines
    assert narrow != wide or max(map(len, wide.splitlines())) <= 60 or line[1] == "new"


def test_a_usage_error_is_wrapped_and_what_it_quotes_is_not(run, spec, monkeypatch):
    folder = "a folder whose name is longer than any line of the terminal"
    line = ("new", folder)
    code, _, wide = run(*line)
    monkeypatch.setattr("qatspec.cli.output.terminal_width", lambda **_: 50)
    assert run(*line)[0] == code == 2
    narrow = run(*line)[2]
    assert narrow.split() == wide.split() and max(map(len, wide.splitlines())) > 90
    over = [shown for shown in narrow.splitlines() if len(shown) > 50]
    assert [shown.strip() for shown in over] == [f"`{folder}`,"]


def test_json_is_short_for_its_format(run, spec):
    code, out, err = run("plan", spec, "--json")
    assert (code, err) == (0, "") and json.loads(out)["steps"]
    assert run("plan", spec, "--format", "json") == run("--json", "plan", spec) == (0, out, "")
    code, out, err = run("plan", spec, "--format", "sarif", "--json")
    assert (code, out) == (2, "") and "two formats at once: sarif and json" in err


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main.run(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_validate(run, spec):
    code, out, err = run("validate", spec)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "spec.yaml: ok (fcos for bayes: float, calibration, qat)",
        "what its rules match is not yet known: run `qatspec check spec.yaml`",
    ]


def test_validate_reads_the_spec_of_a_smoke_run_too(run, spec):
    """What `run --smoke` would refuse: a key that nothing above the section has."""
    text = Path(spec).read_text()
    Path(spec).write_text(f"{text}\nsmoke: {{seed: 1}}\n")
    assert run("validate", spec)[0] == 0
    Path(spec).write_text(f"{text}\nsmoke: {{vras: {{fast: 1}}}}\n")
    code, _, err = run("validate", spec)
    assert code == 1 and "unknown key `vras`" in err and "`run --smoke` reads it" in err


def test_validate_says_what_is_wrong_on_stderr(run, spec):
    code, out, err = run("validate", spec, "--set", "march=j5")
    assert (code, out) == (1, "")
    assert err.startswith("--set:1:7: error[QS309]")
    assert "\x1b" not in err


def test_formats_for_programs_go_to_stdout(run, spec):
    code, out, err = run("validate", spec, "--set", "march=j5", "--format", "json")
    assert (code, err) == (1, "")
    assert json.loads(out)["diagnostics"][0]["code"] == "QS309"
    code, out, _ = run("validate", spec, "--format", "json")
    assert (code, json.loads(out)["diagnostics"]) == (0, [])


def test_options_may_stand_before_the_command(run, spec):
    _, out, _ = run("--format", "github", "validate", spec, "--set", "march=j5")
    assert out.startswith("::error title=QS309,file=--set,line=1")


def test_strict_makes_warnings_fail(run, spec):
    twice = 'quantize.modules.head.qconfig={"": horizon_qat, module_name: [[a, null], [a, null]]}'
    code, out, err = run("validate", spec, "--set", twice)
    assert code == 0
    assert "warning[QS313]" in err
    assert "ok" in out
    assert run("validate", spec, "--set", twice, "--strict")[0] == 1
    assert run("validate", spec, "--strict")[0] == 0


def test_fix_corrects_the_spec_and_what_it_extends(run, spec):
    good = Path(spec).read_text()
    base = good.replace("quantize_input", "quantise_input").replace("march: bayes", "march: j5")
    Path("base.yaml").write_text(base)
    Path(spec).write_text("extends: base.yaml\nseeed: 3\n")
    code, _, err = run("validate", spec, "--fix")
    assert code == 0, err
    assert f"{spec}:2:1: `seeed` -> `seed`" in err
    assert "`j5` -> `bayes`" in err
    assert Path("base.yaml").read_text() == good
    assert Path(spec).read_text() == "extends: base.yaml\nseed: 3\n"
    assert run("validate", spec, "--fix")[2] == ""


def test_fix_leaves_what_is_not_sure(run, spec):
    text = Path(spec).read_text().replace("march: bayes", "march: nonsense")
    Path(spec).write_text(text)
    assert run("validate", spec, "--fix")[0] == 1
    assert Path(spec).read_text() == text


def test_plan(run, spec):
    code, out, _ = run("plan", spec)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[3:]] == ["float", "calibration", "qat"]
    code, out, _ = run("plan", spec, "--format", "json", "--workdir", "elsewhere")
    assert json.loads(out)["format"] == 1


def test_diff(run, spec):
    Path("other.yaml").write_text(Path(spec).read_text().replace("stem: 8", "stem: 16"))
    code, out, _ = run("diff", spec, "other.yaml")
    assert code == 0
    assert "/model/params/backbone/stem: 8 -> 16" in out
    code, out, _ = run("diff", spec, "other.yaml", "--format", "json")
    assert json.loads(out)["changed"] == ["float", "calibration", "qat"]
    assert "differs" not in run("diff", spec, spec)[1]


def test_migrate(run, spec):
    assert run("migrate", spec)[:2] == (0, "spec.yaml: version 1 is the newest; nothing to do\n")
    Path(spec).write_text("qatspec: 7\n")
    code, _, err = run("migrate", spec)
    assert code == 1
    assert "error[QS207]: version 7" in err


def test_explain_a_code(run):
    code, out, _ = run("explain", "qs201")
    assert code == 0
    assert out.startswith("QS201: unknown key")
    code, _, err = run("explain", "QS2O1")
    assert code == 2
    assert "QS201" in err


def test_explain_a_module(run, spec):
    code, out, _ = run("explain", spec, "head.cls.0", "--op", "torch.nn.Conv2d")
    assert code == 0
    assert out.splitlines()[0] == "head.cls.0: float in stage qat, if the model has it"
    assert "decided by object_type `torch.nn.Conv2d`: null  (spec.yaml:26)" in out
    assert "over module_name `cls`: horizon_qat  (spec.yaml:27)" in out
    assert "warning: the other precedence would decide otherwise" in out


def test_explain_a_module_that_is_not_prepared(run, spec):
    _, out, _ = run("explain", spec, "loss")
    assert "it lies in no prepared module (backbone, head)" in out


def test_explain_says_what_it_left_out(run, spec):
    _, out, _ = run("explain", spec, "head.cls.0")
    assert "rules by type were omitted" in out
    assert "the model's modules are not yet known: run `qatspec check spec.yaml`" in out


def test_schema_holds_registered_names(run, tmp_path):
    _, out, _ = run("schema")
    schema = json.loads(out)
    assert "fcos" in schema["properties"]["model"]["properties"]["type"]["enum"]
    assert "num_classes" in schema["$defs"]["model.fcos"]["properties"]
    path = tmp_path / "s.json"
    assert run("schema", "--output", str(path))[0] == 0
    assert json.loads(path.read_text()) == schema


def test_a_new_spec_finds_its_schema(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("new", "quickstart")[0] == 0
    text = Path("specs/quickstart.yaml").read_text()
    named = text.splitlines()[0].partition("$schema=")[2]
    assert Path("specs", named).read_text() == run("schema")[1]
    assert run("validate", "specs/quickstart.yaml")[0] == 0
    code, _, err = run("new", "quickstart")
    assert code == 1 and "QS906" in err
    code, _, err = run("new", "quickstart", "--march", "bernoulli2")
    assert code == 2 and "--set march=bernoulli2" in err


def test_a_new_spec_in_a_file_of_its_name(run, tmp_path, monkeypatch):
    """`import-hat --output` takes a file, and so does this one; any other file is no folder."""
    monkeypatch.chdir(tmp_path)
    assert run("new", "quickstart", "--output", "deep/mine.yaml")[0] == 0
    assert sorted(path.name for path in Path("deep").iterdir()) == [
        "mine.yaml", "qatspec.schema.json",
    ]  # fmt: skip
    assert run("validate", "deep/mine.yaml")[0] == 0
    code, _, err = run("new", "quickstart", "--output", "deep/mine.yaml")
    assert code == 1 and "QS906" in err
    code, _, err = run("new", "quickstart", "--output", "deep/qatspec.schema.json")
    assert code == 2 and "name.yaml" in err


def test_plugins_list(run):
    code, out, _ = run("plugins", "list")
    assert code == 0
    assert "vision  qatspec==" in out
    code, out, _ = run("plugins", "list", "--format", "json")
    rows = {row["entry_point"]: row for row in json.loads(out)["plugins"]}
    assert "fcos" in rows["vision"]["registers"]["model"]


def test_usage(run):
    assert run("validat")[0] == 2
    assert "did you mean `validate`?" in run("validat")[2]
    assert run("validate")[0] == 2
    assert run("validate", "x", "--nonsense")[0] == 2
    assert run("--nonsense")[0] == 2
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in main.COMMANDS)
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "qatspec")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PluginFault("net raised", origin="p (d==1)"), 3, "QS004"),
        (InternalError("lost"), 4, "internal error: InternalError: lost"),
        (ZeroDivisionError("oops\nmore"), 4, "internal error: ZeroDivisionError: oops"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.UsageError("no"), 2, "no"),
    ],
)
def test_every_end_has_its_exit_code(run, monkeypatch, error, code, words):
    @click.command()
    def command():
        raise error

    module = types.ModuleType("qatspec_failing_command")
    module.command = command
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(main.COMMANDS, "fail", (module.__name__, "Fail."))
    found, _, err = run("fail")
    assert found == code
    assert words in err
    assert "Traceback" not in err
    if code == 4:
        assert "Traceback" in run("fail", "--debug")[2]

"""What rules match: not known at first, known without torch once `check` has built the model."""

import pytest

RULES = """
    qconfig:
      "": horizon_calibrated
      object_type: {torch.nn.Conv2d: null, torch.nn.LSTM: null}
      module_name: {nowhere: null, features: horizon_qat}
    solver: {ignore_extra: true}  # scales of the convs, which calibration quantizes
"""


#: A conv in float has no integers to convert: convert would refuse it, and check with it.
TO_INTEGERS = "  convert: {}\n  compile: {opt: O3}\n"


@pytest.fixture
def checked(project):
    project.edit(TO_INTEGERS, "")
    project.edit("\n    qconfig: horizon_calibrated\n", RULES)
    arguments = ("toy.yaml", "--allow-code", "--workdir", "work")
    before = project.call("validate", *arguments)
    assert before.returncode == 0, before.stderr
    assert "run `qatspec check toy.yaml`" in before.stdout
    assert "QS312" not in before.stderr
    assert project.call("check", *arguments).returncode == 0
    return project, arguments


def test_validate_warns_of_rules_that_match_nothing(checked):
    project, arguments = checked
    after = project.call("validate", *arguments)
    assert after.returncode == 0
    assert "not yet known" not in after.stdout
    assert after.stderr.count("warning[QS312]") == 3
    assert "`torch.nn.LSTM` matches nothing" in after.stderr
    assert "`nowhere` matches nothing" in after.stderr
    assert "`features` matches nothing" in after.stderr
    project.edit("nowhere: null, ", "")
    assert project.call("validate", *arguments).stderr.count("QS312") == 2, "rules may change"
    project.edit("count: 32", "count: 16")
    assert "not yet known" not in project.call("validate", *arguments).stdout, "data may change"


def test_explain_knows_the_ops(checked):
    project, (spec, *rest) = checked
    found = project.call("explain", spec, "", *rest).stdout.splitlines()
    convs = [line for line in found if "(conv2d)" in line]
    assert convs
    assert all("float by object_type `torch.nn.Conv2d`: null" in line for line in convs)
    module = convs[0].split()[0]
    lines = project.call("explain", spec, module, *rest).stdout.splitlines()
    assert lines[0].startswith(f"{module}: conv2d `")
    assert lines[0].endswith("float in stage qat")
    assert "  decided by object_type `torch.nn.Conv2d`: null  (toy.yaml:26)" in lines
    assert any(line.startswith("  over the global rule: horizon_calibrated") for line in lines)
    assert any(line.startswith("  precedence: object_type_first") for line in lines)
    for op in ((), ("--op", "torch.nn.Conv2d")):
        misspelt = project.call("explain", spec, module + "x", *rest, *op).stdout
        assert f"did you mean `{module}`?" in misspelt
        assert "quantized" not in misspelt and "float" not in misspelt


def test_explain_says_that_an_anchor_decides(checked):
    project, (spec, *rest) = checked
    found = project.call("explain", spec, "", *rest).stdout.splitlines()
    fused = [line for line in found if ", fused behind `" in line]
    assert any("(batch_norm2d)" in line or "(relu)" in line for line in fused)
    assert all("float by object_type `torch.nn.Conv2d`: null" in line for line in fused)
    module = next(line.split()[0] for line in fused if "(batch_norm2d)" in line)
    lines = project.call("explain", spec, module, *rest).stdout.splitlines()
    assert lines[0].endswith("float in stage qat")
    assert lines[1].startswith("  fused behind conv2d `")
    assert "  decided by object_type `torch.nn.Conv2d`: null  (toy.yaml:26)" in lines


def test_another_stage_has_a_table_of_its_own_key(checked):
    project, (spec, *rest) = checked
    found = project.call("explain", spec, "", *rest, "--stage", "calibration").stdout
    assert "quantized by the global rule: horizon_calibration" in found


def test_explain_says_what_the_march_leaves_in_float(project):
    project.edit(TO_INTEGERS, "")
    plugin = project.folder / "toy_plugin.py"
    before = "return self.head(self.stem(images))"
    assert before in plugin.read_text()
    march = """
from dataclasses import replace
from qatspec_horizon import plugin as horizon

@hookimpl
def qatspec_marches():
    bayes = next(m for m in horizon.qatspec_marches() if m.name == "bayes")
    return [replace(bayes, name="mine", chips=(), float_ops={"softmax": "the chip has none"})]
"""
    plugin.write_text(plugin.read_text().replace(before, f"{before}.softmax(1)") + march)
    project.edit("march: bayes", "march: mine")
    project.edit(
        "quantize: {prepare: horizon, quantize_output: false}", "quantize: {prepare: horizon}"
    )
    arguments = ("--allow-code", "--workdir", "work")
    assert project.call("check", "toy.yaml", *arguments).returncode == 0
    lines = project.call("explain", "toy.yaml", "", *arguments).stdout.splitlines()
    assert any(line.startswith("  yet mine leaves softmax in float: the chip ") for line in lines)
    project.edit("quantize: {prepare: horizon}", "quantize: {}")
    assert project.call("check", "toy.yaml", *arguments).returncode == 0
    assert "leaves" not in project.call("explain", "toy.yaml", "", *arguments).stdout

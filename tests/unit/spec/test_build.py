"""Documents to Specs: defaults, merging of quantize, and what must hold between stages."""

from pathlib import Path

import pytest

from qatspec.diag import DiagnosticError
from qatspec.spec import load, prepare_config, qconfig_rules
from qatspec.types import QConfig, QSpec
from tests.diagnostics.plugin import fake_registry

REGISTRY = fake_registry()

BASE = """\
qatspec: 1
name: digits
march: bayes
model: {type: net, params: {num_classes: 10}, input: {size: [64, 32], scale: 0.0078125}}
data:
  train: {type: digits, batch_size: 8, workers: 2}
  val: {type: digits, params: {split: val}}
stages:
  float:
    trainer: {epochs: 3, optimizer: {type: sgd, lr: 0.01}, batch_norm: {freeze_from_epoch: 2}}
  calibration: {trainer: {steps: 2}, qconfig: HorizonCalibrationQConfig}
  qat:
    trainer: {epochs: 1, optimizer: {type: adamw, lr: 1e-3}}
    qconfig: horizon_calibrated
  convert: {}
  compile: {cores: 2}
"""
MODULES = """\
quantize:
  modules:
    backbone: {prepare: horizon}
    head: {prepare: horizon, quantize_input: false, quantize_output: false}
"""


@pytest.fixture
def build(tmp_path):
    def build(text, *overrides):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return load(path, overrides, registry=REGISTRY)

    return build


@pytest.fixture
def refused(build):
    def refused(text, *overrides):
        with pytest.raises(DiagnosticError) as error:
            build(text, *overrides)
        return error.value.diagnostics

    return refused


def test_defaults_are_filled_in(build):
    spec = build(BASE)
    assert spec.input.size == (64, 32)
    assert (spec.input.mean, spec.input.format) == (128, "rgb")
    assert spec.model.params == {"num_classes": 10, "width": 1.0}
    assert spec.data["calibration"] is spec.data["qat"] is spec.data["train"]
    assert spec.data["train"].broken == "skip"
    assert spec.data["val"].batch_size == 1
    trainer = spec.stages["float"].trainer
    assert (trainer.batch_norm, trainer.freeze_from_epoch) == ("running", 2)
    assert trainer.optimizer.params == {
        "lr": 0.01, "momentum": 0, "nesterov": False, "weight_decay": 0, "groups": [],
    }  # fmt: skip
    assert trainer.scheduler.type == "constant"
    assert spec.stages["qat"].trainer.optimizer.params["betas"] == [0.9, 0.999]
    assert spec.stages["convert"].options == {"opset": None, "qdq": None}
    assert spec.stages["compile"].options == {
        "opt": "O3", "cores": 2, "rt_input_type": "featuremap", "rt_input_layout": "NCHW",
    }  # fmt: skip
    assert list(spec.stages) == ["float", "calibration", "qat", "convert", "compile"]


def test_order_of_stages_is_theirs_not_the_files(build):
    head, stages = BASE.split("stages:\n")
    blocks = stages.split("  calibration")
    swapped = f"{head}stages:\n  calibration{blocks[1]}{blocks[0]}"
    assert list(build(swapped).stages) == list(build(BASE).stages)


def test_quantization_fills_in_the_stages_qconfig(build):
    spec = build(BASE + MODULES)
    backbone, head = spec.quantization("qat")
    assert (backbone.path, head.path) == ("backbone", "head")
    assert backbone.qconfig.rules[0].preset == "horizon_calibrated"
    assert spec.quantization("calibration")[0].qconfig.rules[0].preset == "horizon_calibration"
    assert backbone.prepare.march_preset
    assert spec.input.scale == 0.0078125
    assert backbone.prepare.input_scale is None  # its own; `prepare` finds who takes the image
    assert not head.quantize_output
    assert spec.quantization("convert") == spec.quantization("qat")
    assert spec.quantization("float") == ()


def test_without_modules_the_whole_model(build):
    (whole,) = build(BASE).quantization("qat")
    assert whole.path == ""


def test_a_stages_quantize_merges_over_the_top_one(build):
    text = BASE.replace(
        "    qconfig: horizon_calibrated\n",
        "    qconfig: horizon_calibrated\n"
        "    quantize: {modules: {head: {quantize_input: true}}}\n",
    )
    spec = build(text + MODULES)
    backbone, head = spec.quantization("qat")
    assert head.quantize_input
    assert not head.quantize_output
    assert backbone.prepare.march_preset
    assert not spec.quantization("calibration")[1].quantize_input


def test_nested_modules_have_absolute_paths(build):
    text = BASE + "quantize: {modules: {body: {modules: {a: {qconfig: horizon_qat}, b: {}}}}}\n"
    a, b = build(text).quantization("qat")
    assert (a.path, b.path) == ("body.a", "body.b")
    assert a.qconfig.rules[0].preset == "horizon_qat"
    assert b.qconfig.rules[0].preset == "horizon_calibrated"


@pytest.mark.parametrize("key", ["qconfig: horizon_qat", "prepare: horizon",
                                 "quantize_input: true", "quantize_output: false"])  # fmt: skip
def test_modules_exclude_their_siblings(refused, key):
    (found,) = refused(BASE + MODULES.replace("quantize:\n", f"quantize:\n  {key}\n"))
    assert found.code == "QS206"
    assert found.span.line == 18


def test_a_stages_sibling_of_the_tops_modules(refused):
    (found,) = refused(BASE + MODULES, "stages.qat.quantize={quantize_input: false}")
    assert found.code == "QS206"


def test_every_finding_of_a_phase_at_once(refused):
    found = refused(BASE, "march=j5", "model.type=nett", "stages.qat.qconfig=hori",
                    "data.val.params.splitt=x", "stages.compile.core=1")  # fmt: skip
    assert sorted(d.code for d in found) == ["QS201", "QS301", "QS301", "QS309"]


def test_the_marchs_own_schema(refused):
    found = refused(BASE, "stages.compile={core: 1, opt: O9}")
    assert sorted(d.code for d in found) == ["QS201", "QS204"]


def test_uncalibrated_names_the_modules(refused):
    text = BASE.replace(
        "  calibration: {trainer: {steps: 2}, qconfig: HorizonCalibrationQConfig}\n", ""
    )
    (found,) = refused(text + MODULES)
    assert found.code == "QS401"
    assert found.span.line == 13
    assert found.notes[0].text == "modules: backbone, head"


@pytest.mark.parametrize(
    ("qconfig", "words", "moving"),
    [
        ("HorizonCalibrationQConfig", "`horizon_calibration`", "qconfig: horizon_qat"),
        ('{"": {activation: {fake_quant: fixed}}}', "`fake_quant: fixed`", "fake_quant: moving"),
    ],
)
def test_uncalibrated_are_all_rules_that_fix_scales(refused, qconfig, words, moving):
    text = BASE.replace(
        "  calibration: {trainer: {steps: 2}, qconfig: HorizonCalibrationQConfig}\n", ""
    ).replace("qconfig: horizon_calibrated", f"qconfig: {qconfig}")
    assert qconfig in text
    (found,) = refused(text)
    assert (found.code, found.message.partition(" keeps")[0]) == ("QS401", words)
    assert f"write `{moving}`" in found.help


def test_uncalibrated_by_pre_step(refused):
    (found,) = refused(BASE, "stages.qat.solver.pre_step=float")
    assert found.code == "QS401"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("stages.calibration.solver.pre_step=qat", "QS403"),
        ("stages.float.trainer={optimizer: {type: sgd, lr: 1}}", "QS208"),
        ("stages.qat.quantize.qconfig={object_type: {torch.nn.Conv2d: horizn_qat}}", "QS301"),
    ],
)
def test_stages(refused, override, code):
    assert [d.code for d in refused(BASE, override)] == [code]


def test_qconfig_of_python_objects():
    def relu(x):
        return x

    config = QConfig(activation=QSpec(dtype="qint16"))
    rules = qconfig_rules(
        {"": config, "object_type": [(relu, None), ("torch.add", "horizon_qat")],
         "precedence": "module_name_first"}, registry=REGISTRY,
    )  # fmt: skip
    assert rules.precedence == "module_name_first"
    assert (rules.rules[0].kind, rules.rules[0].value) == ("global", config)
    assert rules.rules[1].key.endswith("relu")
    assert rules.rules[1].value is None
    assert rules.rules[2].preset == "horizon_qat"


def test_inline_qconfig_takes_the_defaults_of_its_tensor():
    rules = qconfig_rules(
        {"": {"weight": {"dtype": "qint4"}, "activation": None}}, registry=REGISTRY
    )
    config = rules.rules[0].value
    assert config.activation is None
    assert (config.weight.dtype, config.weight.ch_axis) == ("qint4", 0)
    assert config.weight.averaging_constant == 1.0


@pytest.mark.parametrize(
    ("value", "code"),
    [({"object_typ": {}}, "QS201"), ({"": {"activation": {"dtype": "int8"}}}, "QS204"),
     (3, "QS203"), ({"module_name": [["a"]]}, "QS205")],
)  # fmt: skip
def test_bad_qconfig(value, code):
    with pytest.raises(DiagnosticError) as error:
        qconfig_rules(value, "/q", registry=REGISTRY)
    found = error.value.diagnostics[0]
    assert found.code == code
    assert found.at.startswith("/q")


def test_prepare_takes_every_key_of_the_tutorial():
    config = prepare_config(
        {
            "preset": "horizon",
            "standalone_module_name": ["a", {"name": "b", "qconfig": "horizon_qat"}],
            "standalone_module_class": [{"class": "C", "prepare": "horizon"}],
            "non_traceable_module_name": ["n"],
            "non_traceable_module_class": ["N"],
            "additional_fuser_method_mapping": [[["torch.nn.Conv2d", "torch.nn.BatchNorm2d"], "f"]],
            "additional_qat_module_mapping": {"A": "B"},
            "additional_fusion_pattern": [[["torch.nn.ReLU", "torch.nn.Conv2d"], "conv_relu"]],
            "additional_quant_pattern": {"torch.nn.Conv2d": "conv"},
            "float_to_observed_custom_module_class": {"F": "O"},
            "observed_to_quantized_custom_module_class": {"O": "Q"},
            "input_quantized_idxs": [0],
            "output_quantized_idxs": [1],
            "preserved_attributes": ["size"],
            "wrap": ["len"],
            "boundary": ["head"],
            "shared_conv": "copy",
            "input_scale": 0.5,
        },
        "/p",
        REGISTRY,
    )
    assert config.march_preset
    assert config.shared_conv == "copy"
    assert config.standalone_module_name[0].name == "a"
    assert config.standalone_module_name[1].qconfig.rules[0].preset == "horizon_qat"
    assert config.standalone_module_class[0].cls == "C"
    assert config.standalone_module_class[0].prepare.march_preset
    key = ("torch.nn.Conv2d", "torch.nn.BatchNorm2d")
    assert config.additional_fuser_method_mapping == {key: "f"}
    assert config.additional_qat_module_mapping == {"A": "B"}
    assert config.input_quantized_idxs == (0,)
    assert config.wrap == ("len",)
    assert config.boundary == ("head",)


def test_code_needs_leave(build, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from qatspec.api import NO_PARAMS, ModelDef, hookimpl\n"
        "@hookimpl\n"
        "def qatspec_models():\n"
        "    return [ModelDef(name='mine', summary='s', params=NO_PARAMS, build=print)]\n"
    )
    text = BASE.replace("type: net, params: {num_classes: 10}", "type: mine")
    text = text.replace("march: bayes\n", "march: bayes\nplugins: [./mine.py]\n")
    with pytest.raises(DiagnosticError) as error:
        build(text)
    assert error.value.diagnostics[0].code == "QS006"
    registry = fake_registry()
    spec = load(tmp_path / "spec.yaml", allow_code=True, registry=registry)
    assert registry.model(spec.model.type).name == "mine"


def test_another_march_by_set_says_how_its_compile_keys_go():
    """What the note says is followed."""
    quickstart = Path(__file__).parents[3] / "specs" / "quickstart.yaml"
    with pytest.raises(DiagnosticError) as caught:
        load(quickstart, ["march=litert"])
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS201" and "stages.compile={}" in problem.notes[0].text
    assert load(quickstart, ["march=litert", "stages.compile={}"]).march == "litert"

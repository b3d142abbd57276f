"""`qatspec import-hat`: a config of HAT becomes a spec without being executed."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from qatspec.cli.main import run
from qatspec.diag import DiagnosticError
from qatspec.hat import import_config
from qatspec.source.load import SMALLEST
from qatspec.spec import load, warnings

CONFIG = (Path(__file__).parent / "shop_config.py.txt").read_text("utf-8")
#: As the community tutorial has them: commas, colons and quotes are missing, `...` is not, and
#: torch has no `torch.nn.functional.add`.
RULES = """
    qconfig_dict = {
        "": qconfig,
        "object_type": [
            (torch.nn.Linear, qconfig),
            (torch.nn.functional.add, qconfig),
            ...,
        ],
        "module_name": [
            (head.tower, qconfig)
            ...,
        ],
        "module_name_regex": [
            (head.conv[0-9]+, qconfig)
            ...,
        ],
    }
    prepare_custom_config_dict = {
        "standalone_module_name": [],
        "non_traceable_module_name": ["loss"],
        "additional_fuser_method_mapping": {
            (torch.nn.Conv2d, torch.nn.BatchNorm2d) fuse_conv_bn
        },
        "additional_qat_module_mapping": {
            torch.nn.intrinsic.ConvBn2d torch.nn.qat.ConvBn2d
        },
        "additional_quant_pattern": {
            (torch.nn.ReLU, torch.nn.Conv2d): ConvHandler,
        }

        # a comma is missing in front of this comment
        "preserved_attributes": ["kept"],
    }
"""
MODULES = """
    custom_config_dict={
        "modules": {
            "backbone": {
                "qconfig_dict": qat_qconfig_dict,
                "prepare_custom_config_dict": HorizonPrepareCustomConfigDict,
            },
            "head": {
                "qconfig_dict": qat_qconfig_dict,
                "prepare_custom_config_dict": HorizonPrepareCustomConfigDict,
                "quantize_input": False,
                "quantize_output": False,
            },
        }
    },
"""


def imported(tmp_path, text, march=None):
    """(Spec, what was reported): the spec passes every check that needs no data."""
    config = tmp_path / "config.py"
    config.write_text(text, encoding="utf-8")
    result = import_config(config, march)
    spec = tmp_path / "config.yaml"
    spec.write_text(result.text, encoding="utf-8")
    loaded = load(spec)
    assert warnings(loaded) == ()
    return loaded, result


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return imported(tmp_path_factory.mktemp("shop"), CONFIG)


def values(spec):
    return spec.document.data


def test_what_a_config_says_stands_in_the_spec(shop):
    spec = values(shop[0])
    assert (spec["name"], spec["march"]) == ("shop_fcos", "bernoulli2")
    params = spec["model"]["params"]
    assert (params["num_classes"], params["backbone"]["variant"]) == (5, "b2")
    assert params["neck"] == {"channels": 112, "stacks": 5, "levels": 5}
    assert params["target"] == {"topk": 10, "giou_weight": 3.0}
    assert params["decoder"]["nms_pre"] == 500
    assert params["batch_norm"] == {"momentum": 0.03}
    image = spec["model"]["input"]
    assert (image["size"], image["format"], image["scale"]) == ([768, 768], "yuv444", 1 / 128)
    assert spec["data"]["train"]["params"]["root"] == "/data/shop"
    assert spec["data"]["train"]["params"]["augment"] == {
        "scale": [0.5, 2.0], "flip": 0.5, "hsv": [0.015, 0.7, 0.4],
    }  # fmt: skip
    assert spec["data"]["val"]["params"]["split"] == "val2017"
    assert spec["stages"]["compile"] == {"opt": "O3", "rt_input_type": "nv12"}


def test_trainers_and_solvers_become_stages(shop):
    stages = values(shop[0])["stages"]
    trainer = stages["float"]["trainer"]
    assert (trainer["epochs"], trainer["ema"], trainer["validate_epochs"]) == (100, 0.9998, 2)
    assert trainer["batch_norm"] == "synchronized"
    assert trainer["optimizer"] == {
        "type": "sgd", "lr": 0.14, "momentum": 0.937, "nesterov": True,
        "groups": [{"pattern": "weight", "weight_decay": 4e-5}],
    }  # fmt: skip
    assert stages["float"]["solver"] == {"allow_miss": True, "weights": "models/b2.pth.tar"}
    assert stages["calibration"]["trainer"] == {"steps": 2000}
    assert stages["calibration"]["solver"] == {"pre_step": "float", "pre_step_checkpoint": "last"}
    assert stages["qat"]["trainer"]["scheduler"] == {"type": "step", "epochs": [4]}
    assert stages["qat"]["trainer"]["batch_norm"] == "frozen"


def test_a_loader_for_validation_that_no_trainer_names(shop, tmp_path):
    """Its data are those of the role val, as where a callback names it."""
    text = CONFIG.replace('dict(type="Validation"', 'dict(type="StatsMonitor"')
    assert text != CONFIG
    spec = values(imported(tmp_path, text)[0])
    assert spec["data"]["val"] == values(shop[0])["data"]["val"]


def test_the_config_is_read_once_for_each_stage(shop):
    """24 where HAT_TRAINING_STEP is float, 24 // 2 elsewhere."""
    spec = values(shop[0])
    assert spec["data"]["train"]["batch_size"] == 24
    assert spec["stages"]["qat"]["batch_size_per_gpu"] == 12


def test_one_quantize_section_serves_both_stages(shop):
    """Loops, `update` and copies of the config's dictionaries are followed."""
    spec = values(shop[0])
    assert spec["quantize"] == {
        "modules": {
            "backbone": {"prepare": "horizon"},
            "neck": {"prepare": "horizon", "quantize_input": False},
            "head": {"prepare": "horizon", "quantize_input": False, "quantize_output": False},
        }
    }
    assert spec["stages"]["calibration"]["qconfig"] == "horizon_calibration"
    assert spec["stages"]["qat"]["qconfig"] == "horizon_calibrated"


def test_what_is_not_carried_is_reported_once_with_its_line(shop):
    lines = CONFIG.split("\n")
    reported = {
        lines[d.span.line - 1][d.span.col - 1 : d.span.end_col - 1]: d for d in shop[1].findings
    }
    assert {str(d.code) for d in reported.values()} == {"QS971"}
    assert set(reported) == {
        'raise RuntimeError("executed")', "True", '"/data/shop/train_lmdb/"',
        '"/data/shop/val_lmdb/"', "2",
        'dict(type="WandbLogger", project="shop")',
    }  # fmt: skip
    assert "warmup_steps" in reported["2"].help
    scheduler = values(shop[0])["stages"]["float"]["trainer"]["scheduler"]
    assert scheduler == {"type": "cosine", "warmup_steps": 1000}
    assert shop[1].missing == ("/march",)


def test_the_tutorials_rules_are_read_in_spite_of_their_syntax(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rules.py").write_text(RULES, encoding="utf-8")
    assert run(["import-hat", "rules.py"]) == 0
    told = capsys.readouterr().err
    assert told.count("QS972") == 6
    for name in ("fuser_method_mapping", "qat_module_mapping", "quant_pattern"):
        assert f"`additional_{name}` is not carried" in told
    assert "`torch.nn.functional.add` -> `torch.add`" in told
    spec = values(load("rules.yaml"))
    assert spec["quantize"]["prepare"] == {
        "non_traceable_module_name": ["loss"], "preserved_attributes": ["kept"],
    }  # fmt: skip
    assert spec["stages"]["qat"]["qconfig"] == {
        "": "horizon_calibrated",
        "object_type": {"torch.nn.Linear": "horizon_calibrated", "torch.add": "horizon_calibrated"},
        "module_name_regex": {"head.conv[0-9]+": "horizon_calibrated"},
        "module_name": {"head.tower": "horizon_calibrated"},
    }


def test_the_tutorials_modules_are_a_quantize_section(tmp_path):
    spec, result = imported(tmp_path, MODULES, "bayes")
    assert values(spec)["march"] == "bayes"
    assert values(spec)["quantize"]["modules"]["head"] == {
        "prepare": "horizon", "quantize_input": False, "quantize_output": False,
    }  # fmt: skip
    assert spec.stages["qat"].name and values(spec)["stages"]["qat"]["qconfig"] == (
        "horizon_calibrated"
    )
    assert result.findings == ()
    assert "/model/type" in result.missing


def test_nothing_of_the_config_runs(tmp_path):
    """Calls have no effect, and their values are reported as unread where they matter."""
    marker = tmp_path / "ran"
    text = f"""
        import os, pathlib
        os.system("touch {marker}")
        pathlib.Path({str(marker)!r}).touch()
        epochs = __import__("os").system("touch {marker}")
        float_trainer = dict(num_epochs=epochs, optimizer=dict(type="Adam", lr=f"{{epochs}}"))
    """
    spec, result = imported(tmp_path, textwrap.dedent(text))
    assert not marker.exists()
    (unread,) = [d for d in result.findings if "num_epochs" in d.message]
    assert "not executed" in unread.notes[0].text
    assert values(spec)["stages"]["float"]["trainer"]["optimizer"]["lr"] == 0.14


BOMBS = {
    "a long text": "a = 'x' * 10 ** 9\nb = f'{1:999999999}'\nc = '%999999999d' % 1",
    "a deep value": f"a = {'[' * 5000}{']' * 5000}",
    "a long loop": "for i in range(10 ** 9):\n    for j in range(10 ** 9):\n        a = i",
    "a growing list": "a = [0]\nfor i in range(9999):\n    a.extend(a)",
    "a list in itself": "a = []\na.append(a)\nfloat_trainer = dict(callbacks=a, num_epochs=a)",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_config_cannot_exhaust_its_reader(tmp_path, text):
    try:
        imported(tmp_path, text)
    except DiagnosticError as error:
        assert {str(d.code) for d in error.diagnostics} == {"QS970"}


def test_sections_without_a_counterpart_are_reported(tmp_path):
    text = "int_infer_trainer = dict(num_epochs=0)\ntest_model = dict(type='A')\n"
    _, result = imported(tmp_path, f"{text}device_ids = [0, 1]\nhelper = dict(a=1)\n")
    names = [d.message.split("`")[1] for d in result.findings]
    assert names == ["int_infer_trainer", "test_model", "device_ids"]
    assert "--nproc 2" in result.findings[2].help


def test_a_statement_that_is_not_followed_is_reported(tmp_path):
    text = "model = dict()\nwhile model:\n    model.update(a=1)\n"
    _, result = imported(tmp_path, text)
    assert ["this statement" in d.message for d in result.findings] == [True]
    assert result.findings[0].span.line == 2


def test_a_model_that_qatspec_lacks_is_refused_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("lanes.py").write_text('model = dict(type="GaNet", head=dict(type="Head"))')
    assert run(["import-hat", "lanes.py"]) == 1
    told = capsys.readouterr().err
    assert "the model `GaNet` is not carried" in told and "QS301" in told
    assert Path("lanes.yaml").exists()


def test_what_is_no_python_is_refused_at_its_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("shell.py").write_text("a = 1\npython3 tools/train.py --step float\n")
    assert run(["import-hat", "shell.py"]) == 1
    assert "shell.py:2:9: error[QS970]" in capsys.readouterr().err
    assert not Path("shell.yaml").exists()


@pytest.mark.parametrize("text", ["", "lr = 0.1\n", "import torch\n"])
def test_a_file_with_nothing_of_a_config_is_refused(tmp_path, text):
    """Its spec would be the tutorial's alone, with nothing of the file."""
    with pytest.raises(DiagnosticError, match="names no part of a config") as refused:
        imported(tmp_path, text)
    assert refused.value.diagnostics[0].code == "QS970"


def test_a_spec_is_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("mine")
    Path("config.py").write_text(MODULES)
    assert run(["import-hat", "config.py"]) == 1
    assert "QS906" in capsys.readouterr().err
    assert Path("config.yaml").read_text() == "mine"


def test_validate_accepts_the_spec_where_the_data_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = CONFIG.replace("/data/shop", str(tmp_path / "shop")).replace(
        'pretrain_checkpoint="models/b2.pth.tar"', "resume_epoch=None"
    )
    Path("config.py").write_text(text)
    names = [{"id": n, "name": str(n)} for n in range(5)]
    for split in ("train2017", "val2017"):
        (tmp_path / "shop" / split).mkdir(parents=True)
        file = tmp_path / "shop" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": [], "annotations": [], "categories": names}))
    assert run(["import-hat", "config.py"]) == 0
    assert run(["validate", "config.yaml", "--strict"]) == 0
    assert "config.yaml: ok (fcos for bernoulli2" in capsys.readouterr().out


BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def test_the_yaml_of_the_page_is_a_valid_spec(tmp_path):
    """docs/from_hat.md: its sections in the places of a spec that they belong to."""
    page = (Path(__file__).parents[3] / "docs" / "from_hat.md").read_text("utf-8")
    example, rules = BLOCK.findall(page)
    base = SMALLEST.partition("stages:")[0]
    float_stage = "  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}\n"
    first = tmp_path / "first.yaml"
    first.write_text(base + example.replace("stages:\n", f"stages:\n{float_stage}"))
    assert warnings(load(first)) == ()
    second = tmp_path / "second.yaml"
    quantize = textwrap.indent(rules, "  ")
    stage = "  qat: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}\n"
    second.write_text(f"{base}quantize:\n{quantize}stages:\n{float_stage}{stage}")
    assert warnings(load(second)) == ()


def test_two_smoke_steps_of_an_imported_spec_do_not_diverge(shop, tmp_path):
    """Rates of a long training, and statistics of two pictures, make gradients overflow."""
    path = tmp_path / "shop.yaml"
    path.write_text(shop[1].text, encoding="utf-8")
    stages = load(path, smoke=True).stages
    for name in ("float", "qat"):
        assert stages[name].trainer.optimizer.params["lr"] <= 1e-3
    assert stages["qat"].trainer.batch_norm == "frozen"

"""Values of `${env:NAME}` stand in no file that is written, and on the terminal only as paths."""

from __future__ import annotations

import json

import pytest

from qatspec.cli import main
from qatspec.cli.output import echo_json
from qatspec.registry import registry
from qatspec.render import FORMATS
from qatspec.source import hide, load_document
from qatspec.source.environment import remember
from tests.conformance.test_broken_models import PLUGIN, SPEC

SECRET = 'h%n"ter\\2:sécret'
SET = "url: 'https://user:${env:QATSPEC_TOKEN}@host/${vars.where}', key: '${env:QATSPEC_TOKEN}'"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QATSPEC_TOKEN", SECRET)
    registry.cache_clear()
    params = '{"type": "object", "properties": {n: {"type": "string", "description": n} '
    params += 'for n in ("url", "key")}, "additionalProperties": False}'
    plugin = PLUGIN.replace(
        'summary="s", params=NO_PARAMS, build', f'summary="s", params={params}, build'
    )
    plugin = plugin.replace("lambda p: Tiny()", "lambda p: (check(p), Tiny())[1]")
    plugin += "\n\ndef check(params):\n    assert params['key'] in params['url'], params\n"
    (tmp_path / "mine.py").write_text(plugin)
    spec = SPEC.replace("type: tiny,", f"type: tiny, params: {{{SET}}},") + "vars: {where: here}\n"
    (tmp_path / "spec.yaml").write_text(spec)
    yield tmp_path
    registry.cache_clear()


@pytest.fixture
def said(folder, capsys):
    def said(*arguments, code=0):
        assert main.run([*arguments, "--allow-code"]) == code
        out, err = capsys.readouterr()
        for form in (
            SECRET,
            json.dumps(SECRET)[1:-1],
            repr(SECRET)[1:-1],
            SECRET.replace("%", "%25"),
        ):
            assert form not in out + err
        return out, err

    return said


def test_no_file_and_no_output_holds_the_value(said, folder):
    run = ("run", "spec.yaml", "--device", "cpu")
    said(*run)
    for path in folder.glob("runs/**/*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data and json.dumps(SECRET)[1:-1].encode() not in data, (
                path
            )
    record = (folder / "runs/mistakes/float/step.json").read_text()
    assert '"https://user:${env:QATSPEC_TOKEN}@host/here"' in record
    plan = json.loads(said("plan", "spec.yaml", "--format", "json")[0])
    assert plan["steps"][0]["state"] == "cached"
    assert "cached" in "".join(said(*run))


def test_another_value_is_a_change_that_is_named(said, folder, monkeypatch):
    said("run", "spec.yaml", "--device", "cpu")
    monkeypatch.setenv("QATSPEC_TOKEN", "another-value")
    table, _ = said("plan", "spec.yaml")
    assert "a variable of the environment has another value" in table
    assert "another-value" not in table


def test_what_show_prints_is_a_spec_of_the_same_meaning(said, folder):
    text, _ = said("show", "spec.yaml")
    assert "https://user:${env:QATSPEC_TOKEN}@host/here" in text
    (folder / "shown.yaml").write_text(text)
    shown, first = load_document("shown.yaml"), load_document("spec.yaml")
    assert shown.data["model"]["params"] == first.data["model"]["params"]
    assert shown.data["model"]["params"]["key"] == SECRET


@pytest.mark.parametrize("output", FORMATS)
def test_errors_hide_the_value(said, folder, output):
    for key, more in (("march", ""), ("seed", ""), ("data.train.type", "x"), ("name", "")):
        setting = f"{key}={more}${{env:QATSPEC_TOKEN}}"
        said("validate", "spec.yaml", "--set", setting, "--format", output, code=1)


@pytest.mark.parametrize("more", [(), ("--debug",)])
def test_errors_of_a_plugin_hide_the_value(said, folder, more):
    path = folder / "mine.py"
    path.write_text(path.read_text().replace("in params['url'], params", "== 1, params"))
    _, err = said("run", "spec.yaml", "--device", "cpu", *more, code=3)
    assert "${env:QATSPEC_TOKEN}" in err and "AssertionError" in err


def test_a_path_is_shown(tmp_path, monkeypatch):
    remember("QATSPEC_DATA", str(tmp_path))
    assert hide(f"no folder {tmp_path}/x") == f"no folder {tmp_path}/x"
    remember("QATSPEC_KEY", "/9j/4AAQSkZJRg")
    assert hide("no folder /9j/4AAQSkZJRg") == "no folder ${env:QATSPEC_KEY}"


def test_a_relative_folder_that_is_there_is_shown(tmp_path, monkeypatch):
    """COCO_ROOT=data must not turn every `data` of a message into a reference."""
    monkeypatch.chdir(tmp_path)
    remember("QATSPEC_PLACE", "picture_set")
    assert hide("picture_set.train") == "${env:QATSPEC_PLACE}.train"
    (tmp_path / "picture_set").mkdir()
    assert hide("picture_set.train") == "picture_set.train"


def test_a_short_value_is_hidden_as_a_word_alone():
    remember("QATSPEC_PIN", "7306")
    assert hide("code 7306, 17306") == "code ${env:QATSPEC_PIN}, 17306"


def test_the_beginning_of_a_long_value_is_hidden(folder, monkeypatch, capsys):
    token = "".join(f"{number:x}k" for number in range(300))
    monkeypatch.setenv("QATSPEC_TOKEN", token)
    setting = "--set", "name=${env:QATSPEC_TOKEN}"
    assert main.run(["validate", "spec.yaml", "--allow-code", *setting]) == 1
    err = capsys.readouterr().err
    assert token[:12] not in err and "${env:QATSPEC_TOKEN}" in err


@pytest.mark.parametrize("value", ["steps", "digest", "format", "name", "true", "null"])
def test_json_keeps_its_keys_and_structure(value, said, folder, monkeypatch):
    plain = json.loads(said("plan", "spec.yaml", "--format", "json")[0])
    monkeypatch.setattr("qatspec.source.environment._read", {})
    remember("QATSPEC_WORD", value)
    found = json.loads(said("plan", "spec.yaml", "--format", "json")[0])
    assert found.keys() == plain.keys()
    assert [step.keys() for step in found["steps"]] == [step.keys() for step in plain["steps"]]


def test_json_hides_values_in_its_texts(monkeypatch, capsys):
    monkeypatch.setattr("qatspec.source.environment._read", {})
    remember("QATSPEC_WORD", "dogs/cats")
    echo_json({"dogs/cats": ["of dogs/cats", 1, True, None, {"a": "\x1b"}]})
    found = json.loads(capsys.readouterr().out)
    assert found == {"dogs/cats": ["of ${env:QATSPEC_WORD}", 1, True, None, {"a": "\x1b"}]}

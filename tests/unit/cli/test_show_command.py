"""`qatspec show`: one file of the same meaning; and the spec that an empty file is offered."""

from pathlib import Path

from qatspec.cli.main import run
from qatspec.plan import resolve
from qatspec.source.load import SMALLEST
from qatspec.spec import load

SPEC = Path(__file__).parents[3] / "specs" / "quickstart.yaml"


def digests(path, *overrides):
    return [step.digest for step in resolve(load(path, overrides)).steps]


def test_show_prints_a_spec_of_the_same_meaning(tmp_path, capsys):
    over = tmp_path / "over.yaml"
    over.write_text(f"extends: {SPEC}\nseed: 3\nvars: {{fast: 1}}\n")
    assert run(["show", str(over), "--set", "vars.qat_epochs=[4, 5]"]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    text = shown.read_text()
    assert "extends" not in text and "vars" not in text and "${" not in text
    assert digests(shown) == digests(over, "vars.qat_epochs=[4, 5]") != digests(SPEC)


def test_show_keeps_keys_that_are_also_a_value_of_the_environment(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NAME_OF_IT", "data")
    over = tmp_path / "over.yaml"
    over.write_text(f"extends: {SPEC}\nname: ${{env:NAME_OF_IT}}\n")
    assert run(["show", str(over)]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(text := capsys.readouterr().out)
    assert "${env:NAME_OF_IT}" in text and "\ndata:\n" in text
    assert digests(shown) == digests(over)


def test_show_says_where_values_come_from(tmp_path, capsys):
    over = tmp_path / "over.yaml"
    over.write_text(f"extends: {SPEC}\nseed: 3\n")
    assert run(["show", str(over), "--places", "--set", "march=bernoulli2"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"seed: 3  # {over}:2" in lines
    assert "march: bernoulli2  # --set:1" in lines
    assert "opset: 17  # " in "\n".join(lines)
    assert any(line.startswith("workers: 0") and line.endswith("# default") for line in lines)


def test_the_smallest_spec_is_good(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SMALLEST)
    assert list(load(path).stages) == ["float"]

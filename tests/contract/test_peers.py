"""The comparison with other quantizers (tests/bench/peers): its tables, judge and own row."""

from __future__ import annotations

import importlib
import json
import math
import re
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[1] / "bench/peers"


@pytest.fixture
def program(monkeypatch):
    """Imports a program of the folder, which finds its neighbours by their bare names."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(PEERS))
    return importlib.import_module


@pytest.mark.parametrize(
    "error, lines, answer",
    [
        ("ValueError: no layer body.99", [], "named"),
        ("ValueError: bad", [], "error"),
        ("", ["nothing matches body.99"], "named"),
        ("ValueError: bad", ["nothing matches body.99"], "named"),
        ("", ["converting"], "said"),
        ("", [], "silent"),
    ],
)
def test_an_answer_is_judged_by_its_words(program, error, lines, answer):
    assert program("mistakes").judged(("body.99",), error, lines)["answer"] == answer


def test_what_is_said_is_heard_in_every_way(program):
    import logging
    import sys
    import warnings

    def run():
        print("printed")
        sys.stderr.write("written\n")
        sys.stderr.write("steps:  36%|###6      | 4/11 [00:00<00:00, 39.03it/s]\n")
        warnings.warn("warned", stacklevel=1)
        logging.getLogger("some_package").warning("logged")
        raise KeyError("raised")

    error, lines, result = program("mistakes").heard(run)
    assert error == "KeyError: 'raised'" and result is None
    assert {"printed", "written", "warned", "logged"} == set(lines)


def test_every_quantizer_has_its_script_for_files(program):
    """deploy_speed.py offers all of PACKAGES, and runs with_PEER.py."""
    scripts = {path.stem.removeprefix("with_") for path in PEERS.glob("with_*.py")}
    assert scripts == set(program("environments").PACKAGES)


@pytest.mark.parametrize("mistake, answer", [
    ("one convolution on two", "right"), ("black pictures", "named"), ("never ran", "named"),
])  # fmt: skip
def test_what_python_users_of_qatspec_are_told(program, tmp_path, monkeypatch, mistake, answer):
    pytest.importorskip("onnxruntime")
    mistakes = program("mistakes")
    (tmp_path / "qatspec-mistakes.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["mistakes", "qatspec", str(tmp_path), "--only", mistake])
    mistakes.main()
    (said,) = json.loads((tmp_path / "qatspec-mistakes.json").read_text()).values()
    assert said["answer"] == answer, said


def test_the_tables_show_failures_and_spread(program, tmp_path):
    row = {
        "float": 80.0, "prepare_s": 1.5, "step": [1.4, 1.5, 1.6], "peak_before_training_mib": 600,
        "speed": "RuntimeError: no", "int4": "not offered",
        "int8": [{"fake_quant": 79.0, "onnxruntime": 78.5, "export_s": 1.0, "mean": 0.001,
                  "worst": 0.02}, {"fake_quant": 80.0, "onnxruntime": 78.5, "failed": "late"}],
    }  # fmt: skip
    (tmp_path / "brevitas-resnet18.json").write_text(json.dumps(row))
    said = {"peer": "brevitas", "a misspelt key": {"answer": "silent", "text": ""}}
    (tmp_path / "brevitas-mistakes.json").write_text(json.dumps(said))
    (tmp_path / "nncf-mistakes.json").write_text(json.dumps({"peer": "nncf"}))  # broken off
    text = importlib.import_module("tests.bench.peers.__main__").printed(tmp_path)
    assert "1.50 (1.40-1.60)" in text and "| failed |" in text
    assert "79.0 to 80.0 | 78.5 | not offered" in text
    assert "| a misspelt key | silent | - |" in text


def test_the_table_of_networks_counts_those_that_are_whole():
    of_networks = importlib.import_module("tests.bench.peers.__main__").of_networks
    rows = {
        "qatspec": {"timm:a": {"result": "whole"}, "timm:b": {"result": "differs", "mean": 0.115}},
        "mct": {"timm:a": {"result": "refused", "stage": "export"}, "timm:b": {"result": "slow"}},
    }
    assert of_networks(rows).splitlines()[2:] == [
        "| a | whole | refused in export |",
        "| b | differs, 0.12 | slow |",
        "| **whole** | 1 of 2 | 0 of 2 |",
    ]


def test_costs_are_told_with_their_spread():
    of_costs = importlib.import_module("tests.bench.peers.__main__").of_costs
    run = {"prepare_s": [1.0, 3.0], "calibrate_s": [0.5, 0.25], "peak_mib": 600}
    rows = {
        "qatspec": {"resnet18": [run, {**run, "peak_mib": 650}]},
        "nncf": {"resnet18": [{"prepare_s": [2.0], "peak_mib": 700}]},
    }
    assert of_costs(rows).splitlines()[2:] == [
        "| qatspec | **2.00 (1.00-3.00)** | **0.38 (0.25-0.50)** | **625 (600-650)** |",
        "| NNCF 3.4.0 | **2.00 (2.00-2.00)** | one call | 700 (700-700) |",
    ]


def test_the_readme_has_the_figures_of_the_page():
    """Every figure of README's table is one of the same quantizer in docs/peers.md."""
    module = importlib.import_module("tests.bench.peers.__main__")
    root = Path(__file__).parents[2]
    page = (root / "docs/peers.md").read_text("utf-8")
    part = (root / "README.md").read_text("utf-8").split("## Beside other quantizers")[1]
    rows = {}
    for row in re.findall(r"^\|(.+)\|$", page, re.MULTILINE):
        name, *cells = (cell.strip() for cell in row.split("|"))
        rows.setdefault(name, []).extend(cells)
    written = re.findall(r"^\|(.+)\|$", part.split("\n## ")[0], re.MULTILINE)
    cells_of = [[cell.strip() for cell in row.split("|")] for row in written]
    of_quantizers = [row for row in cells_of if row[0] in module.NAMES.values()]
    assert len(of_quantizers) == 2 * len(module.NAMES)
    for name, *cells in of_quantizers:
        known = " | ".join(rows[name]).replace("*", "")
        counts = 2 if " / " in cells[-2] else 0  # of mistakes and networks, which tables count
        for cell in cells[: len(cells) - counts]:
            assert all(figure in known for figure in cell.replace("*", "").split(" to ")), (
                name,
                cell,
            )


@pytest.fixture
def kept():
    """The program and the figures that it keeps."""
    module = importlib.import_module("tests.bench.peers.__main__")
    return module, module.kept_figures()


def test_each_table_of_the_page_is_that_of_the_kept_figures(kept):
    """Else: python -m tests.bench.peers --page."""
    module, figures = kept
    page = module.PAGE.read_text("utf-8")
    assert figures and module.filled(page, module.tables(figures)) == page
    marked = set(re.findall(r"<!-- ([\w: ]+) -->\n\|", page))
    assert marked == set(module.tables(figures)) and {name.split(":")[0] for name in marked} == {
        *figures
    }


def test_a_changed_outcome_changes_the_page(kept):
    module, figures = kept
    page = module.PAGE.read_text("utf-8")
    first = next(iter(figures["networks"].values()))
    first[next(iter(first))] = {"result": "slow"}
    assert module.filled(page, module.tables(figures)) != page


def test_kept_figures_have_no_places_of_the_machine(kept, tmp_path, monkeypatch):
    module, _ = kept
    for path in module.KEPT.glob("*.json"):
        assert not re.search(r"/(root|home|tmp|work|usr)/|NaN", path.read_text("utf-8"))
    page = tmp_path / "peers.md"
    page.write_text("<!-- networks -->\n<!-- end -->\n")
    monkeypatch.setattr(module, "PAGE", page)
    row = {"timm:a": {"result": "refused", "stage": "train", "why": "E: /tmp/x", "mean": math.nan}}
    (tmp_path / "mct-networks.json").write_text(json.dumps(row))
    module.keep(tmp_path, tmp_path / "kept")
    (file,) = (tmp_path / "kept").glob("*.json")
    outcome = {"result": "refused", "stage": "train", "mean": None}
    assert json.loads(file.read_text()) == {"mct": {"timm:a": outcome}}


def test_pictures_of_a_seed_are_the_same_and_val_shares_no_digit_with_training(program):
    import torch

    pictures = program("task").Pictures()
    (first,), (again,) = (list(pictures.batches(3, 1)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], next(pictures.batches(4, 1))[0])
    assert not set(pictures._train.tolist()) & set(pictures._val.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_the_row_of_qatspec_goes_from_a_float_net_to_its_file(program, tmp_path, bits):
    pytest.importorskip("onnxruntime")
    mistakes = program("mistakes")
    adapter = program("adapters").ADAPTERS["qatspec"]()
    net = mistakes._settled(mistakes.Net())
    values = mistakes.chain(adapter, net, mistakes._batches(), tmp_path / "net.onnx", bits)
    assert values.shape == (1, 10)

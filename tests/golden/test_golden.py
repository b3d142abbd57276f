"""What ten small nets become, as text: graph, Program and ONNX.

    <net>/graph.txt         the graph after three passes of prepare: captured and normalized
                            (`module`), annotated (`annotate`), and prepared (`weights`)
    <net>/program.txt       the integer Program
    <net>/qat_onnx.txt      the Q/DQ file of the prepared model
    <net>/integer_onnx.txt  the integer ONNX of the Program
    passes/<case>.txt       what each pass of the tiling backend makes of a small Program

QATSPEC_BLESS=1 pytest tests/golden writes them anew: read the difference before you commit it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from qatspec.api import export_qat_onnx, lower, to_onnx
from qatspec.prepare.capture import capture_root_call
from qatspec.prepare.listing import list_unit, text
from qatspec.prepare.passes import run_passes
from qatspec.prepare.unit import Unit
from qatspec.program.text import dump
from qatspec.spec import qconfig_rules
from qatspec.types import PrepareConfig
from tests.golden.nets import NETS, build, settled
from tests.golden.onnx_text import onnx_text
from tests.golden.passes import CASES, pass_text

HERE = Path(__file__).parent
AFTER = ("module", "annotate", "weights")
BLESS = "QATSPEC_BLESS=1 pytest tests/golden"


def _graphs(name: str) -> Iterator[str]:
    for last in AFTER:
        model, x, options = build(name)
        unit = Unit(
            path="",
            rule_path="",
            rules=qconfig_rules("horizon_qat"),
            config=PrepareConfig(),
            quantize_input=True,
            quantize_output=options.get("quantize_output", True),
        )
        unit.start(model, capture_root_call((x,)).calls[""])
        run_passes(unit, last)
        yield f"after pass {last}: {text(list_unit(unit))}"


def _texts(name: str, folder: Path) -> dict[str, str]:
    prepared, x = settled(name)
    program = lower(prepared, (x,))
    export_qat_onnx(prepared, folder / "qat.onnx", (x,))
    to_onnx(program, folder / "integer.onnx")
    return {
        "graph.txt": "\n".join(_graphs(name)),
        "program.txt": dump(program),
        "qat_onnx.txt": onnx_text(folder / "qat.onnx"),
        "integer_onnx.txt": onnx_text(folder / "integer.onnx"),
    }


def _difference(file: Path, now: str) -> str:
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = difflib.unified_diff(
        before.splitlines(), now.splitlines(), f"{file.parent.name}/{file.name}", "now", lineterm=""
    )
    return "\n".join(lines)


@pytest.mark.parametrize("name", NETS)
def test_what_a_net_becomes_is_as_written(name: str, tmp_path: Path) -> None:
    texts = _texts(name, tmp_path)
    _compare({HERE / name / file: now for file, now in texts.items()})


@pytest.mark.parametrize("name", CASES)
def test_what_the_passes_of_the_backend_make_is_as_written(name: str) -> None:
    _compare({HERE / "passes" / f"{name}.txt": pass_text(CASES[name])})


def _compare(texts: Mapping[Path, str]) -> None:
    differences = []
    for golden, now in texts.items():
        if os.environ.get("QATSPEC_BLESS"):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(now, encoding="utf-8")
        differences.append(_difference(golden, now))
    assert not any(differences), "\n".join(
        ("", *filter(None, differences), f"if it is meant: {BLESS}")
    )


def test_every_golden_belongs_to_a_net() -> None:
    assert {path.name for path in HERE.iterdir() if (path / "graph.txt").exists()} == set(NETS)
    assert {path.stem for path in (HERE / "passes").glob("*.txt")} == set(CASES)


def test_a_difference_names_the_file_and_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "program.txt"
    file.write_text("one\ntwo\n")
    shown = _difference(file, "one\nthree\n")
    assert "-two" in shown and "+three" in shown and f"{tmp_path.name}/program.txt" in shown
    assert _difference(file, "one\ntwo\n") == ""

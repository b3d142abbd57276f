"""Commands of the front half never import torch, whatever plugins are installed."""

import subprocess
import sys
from pathlib import Path

import pytest

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "pycocotools", "rich")
PROBE = """
import sys
from qatspec.cli.main import run
code = run(sys.argv[1:])
print("EXIT", code, sorted(m for m in {heavy!r} if m in sys.modules))
"""


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("--version",),
        ("validate", str(SPEC)),
        ("validate", str(SPEC), "--set", "march=j5"),
        ("plan", str(SPEC)),
        ("explain", "QS201"),
        ("explain", str(SPEC), "head"),
        ("schema",),
        ("plugins", "list"),
    ],
    ids=lambda args: " ".join(a for a in args if a != str(SPEC)),
)
def test_light(args, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *args],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    assert last in ("EXIT 0 []", "EXIT 1 []"), done.stdout[-500:] + done.stderr
    assert last == ("EXIT 1 []" if "march=j5" in args else "EXIT 0 []"), done.stderr


def test_a_table_costs_rich_alone(tmp_path):
    args = ("plugins", "show", "fcos")
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *args],
        capture_output=True, text=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "EXIT 0 ['rich']", done.stderr


def test_api_costs_no_torch():
    code = "import sys, qatspec.api; from qatspec.api import ModelDef, lazy, load; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_records_of_ops_cost_neither_torch_nor_numpy():
    code = "import sys; from qatspec.ops.plugin import qatspec_quant_handlers as handlers; "
    code += f"print(len(list(handlers())), [m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    count, _, loaded = done.stdout.strip().partition(" ")
    assert int(count) > 30, done.stderr
    assert loaded == "[]"

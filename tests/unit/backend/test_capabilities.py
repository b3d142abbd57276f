"""Capabilities are typed: what a plugin writes wrongly is found when it is loaded."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qatspec.backend import compile as compile_program
from qatspec.diag import DiagnosticError
from qatspec.referee import interpret
from qatspec.registry import Plugin, registry
from qatspec.types import TILED_OPTIONS, Capabilities, Hardware, March, OpSupport, tiled_march

FIGURES = {
    "cores": 1, "clock_mhz": 500, "macs_per_cycle": 64, "depthwise_macs_per_cycle": 16,
    "vector_lanes": 8, "onchip_bytes": 1 << 16, "ddr_bytes_per_us": 1000, "start_overhead_us": 0.0,
    "run_overhead_us": 0.0, "align_width": 1, "align_channels_in": 1, "align_channels_out": 1,
}  # fmt: skip


def test_a_dict_is_refused_with_the_name_of_the_march():
    with pytest.raises(TypeError, match="`capabilities` of march `mine` is a dict"):
        March(name="mine", summary="", version=1, capabilities={"version": 1}, supports=print,
              compile=print, run=print)  # fmt: skip


@pytest.mark.parametrize("name", [n for n in FIGURES if not n.endswith("overhead_us")])
def test_a_figure_of_0_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Hardware(**(FIGURES | {name: 0}))


def test_a_note_about_no_figure_is_refused():
    with pytest.raises(ValueError, match="`fitted` explains clock"):
        Hardware(**FIGURES, fitted={"clock": "a guess"})


def test_a_tiled_march_needs_hardware_and_ops():
    ops = {"conv": OpSupport(dtypes=("int8",))}
    for part in (Capabilities(ops=ops), Capabilities(hardware=Hardware(**FIGURES))):
        with pytest.raises(ValueError, match="march `mine` states no hardware or no ops"):
            tiled_march(name="mine", version=1, capabilities=part, summary="")


GUIDE = Path(__file__).parents[3] / "plugins" / "README.md"


def test_the_march_of_the_guide_compiles_and_refuses(small, full, noise):
    """A Program of its kinds runs to the referee's integers; another kind is refused by name."""
    (code,) = re.findall(r"```python\n(from [^`]*tiled_march\([^`]*)```", GUIDE.read_text("utf-8"))
    names: dict = {}
    exec(compile(code, "guide", "exec"), names)
    with registry().added(Plugin("tiny", "tiny", "1", SimpleNamespace(**names))):
        made = compile_program(small, "tiny", opt="O1")
        ints = noise(small)
        for got, wanted in zip(made.run(*ints), interpret(small, *ints), strict=True):
            assert np.array_equal(got, wanted)
        with pytest.raises(DiagnosticError) as caught:
            compile_program(full, "tiny")
    assert {d.code for d in caught.value.diagnostics} == {"QS801"}


def test_cores_are_bounded_by_the_hardware():
    capabilities = registry().march("bayes").capabilities
    options = {"type": "object", "additionalProperties": False, "properties": TILED_OPTIONS}
    made = tiled_march(
        name="one_more", version=1, capabilities=capabilities, summary="s", options=options
    )
    assert capabilities.hardware is not None
    assert made.options["properties"]["cores"]["maximum"] == capabilities.hardware.cores

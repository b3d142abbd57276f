"""Nets with published times: their definitions, which rows constants are fitted on, and the fit."""

import argparse
from math import prod

import pytest
from qatspec_horizon.capabilities import BAYES, BAYES_E, BERNOULLI2
from qatspec_horizon.nash import NASH_E, NASH_M, NASH_P
from qatspec_horizon.published.__main__ import _report
from qatspec_horizon.published.fitting import (
    Planned,
    Refused,
    Scored,
    band,
    changed,
    fit,
    score,
    sizes,
)
from qatspec_horizon.published.table import MARCHES, NETS, rows

from qatspec.api import assemble, perf

#: net -> millions of parameters that its authors, or the row's page, print
PARAMETERS = {
    "mobilenetv1": 4.2, "mobilenetv2": 3.5, "mobilenetv3_large_100": 5.48, "resnet18": 11.7,
    "googlenet": 6.6, "mobilenetv4_conv_small": 3.77, "mobilenetv4_conv_medium": 9.72,
    "repvit_m0_9": 5.1, "repghostnet_100": 4.07, "repghostnet_150": 6.57, "yolov9s": 7.2,
    "yolov10n": 2.3, "yolov10s": 7.2, "yolo11n": 2.6, "yolov8n-pose": 3.3, "yolov5nu": 2.6,
    "yolov5s_v2.0": 7.5, "fastvit_t8": 4.0, "efficientnet-lite2": 6.1,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_net_has_as_many_parameters_as_the_published_one(name):
    program = NETS[name]()
    kinds = ("conv", "linear", "conv_transpose")
    weights = [op.inputs[1] for op in program.ops if op.kind in kinds]
    total = sum(prod(program.values[weight].shape) for weight in weights) / 1e6
    assert total == pytest.approx(PARAMETERS[name], rel=0.04)


def test_every_row_has_a_net_a_time_and_a_source():
    for march in MARCHES:
        for row in rows(march):
            assert row.net in NETS, row.model
            assert row.ms > 0 and row.source and row.target
    assert len({row.net for row in rows("bernoulli2")}) >= 15
    assert len(rows("bayes-e")) >= 50


def test_rows_to_fit_on_follow_from_their_key():
    fits = {row.model: row.fits for row in rows("bernoulli2") if row.chip == "X3M/RDK X3"}
    assert fits["ResNet18"] and fits["EfficientNet-lite0"]
    assert not fits["SE-ResNet50"] and not fits["Inception_v3"]


MARCHES_OF_CHIPS = [BERNOULLI2, BAYES, BAYES_E, NASH_E, NASH_M, NASH_P]


@pytest.mark.parametrize("capabilities", MARCHES_OF_CHIPS)
def test_every_figure_says_what_it_rests_on(capabilities):
    kinds = [text.partition(":")[0] for text in capabilities.hardware.fitted.values()]
    assert set(kinds) <= {"printed", "dump", "fitted", "assumed"}
    assert kinds.count("fitted") <= 7


def test_a_row_is_modelled_by_compiling_its_net():
    (row, *_) = (row for row in rows("bernoulli2") if row.net == "mobilenetv1")
    (scored,) = score([row], "balance")
    artifact = assemble(NETS["mobilenetv1"](), row.machine(), opt="balance", verify=False)
    assert scored.ms == perf(artifact)["summary"]["latency (ms)"]
    (slower,) = score([row], "balance", {"macs_per_cycle": 120})
    assert slower.ms > 1.5 * scored.ms
    assert band([scored]).startswith("1 rows: ")


def test_figures_move_by_the_same_commands():
    """The time that the fit looks at is that of the compiled file, and of other figures besides."""
    (row, *_) = (row for row in rows("bayes-e") if row.net == "mobilenetv2")
    planned = Planned([row], "balance", {})
    (scored,) = score([row], "balance")
    (same,) = planned.score({})
    (slower,) = planned.score({"macs_per_cycle": 300, "ddr_bytes_per_us": 3000})
    assert same.ms == pytest.approx(scored.ms, abs=1e-6) and slower.ms > 1.3 * same.ms


def test_a_net_that_the_march_refuses_is_printed_and_the_next_one_follows(capsys):
    """A memory that no layer of the first net fits, and one that every net fits."""
    (row, *_) = (row for row in rows("bernoulli2") if row.net == "mobilenetv1")
    (refused,) = score([row], "balance", {"onchip_bytes": 512})
    assert isinstance(refused, Refused) and "does not fit the on-chip memory" in refused.reason
    arguments = argparse.Namespace(opt="balance", markdown=False)
    _report("bernoulli2", [row], arguments, {"onchip_bytes": 512})
    assert "refused: `" in capsys.readouterr().out
    arguments.markdown = True
    _report("bernoulli2", [row], arguments, {"onchip_bytes": 512})
    assert capsys.readouterr().out.count("|") == 9
    assert Planned([row], "balance", {"onchip_bytes": 512}).rows == []


def test_the_clock_is_that_of_the_row():
    clocks = {row.machine().hardware.clock_mhz for row in rows("bayes-e")}
    assert clocks == {1000, 1200}


def test_errors_count_alike_in_both_directions():
    (row, *_) = rows("bayes-e")
    pair = [Scored(row=row, ms=row.ms * f, ddr_mib=1.0) for f in (1.25, 0.8)]
    assert sizes(pair) == pytest.approx([25.0, 25.0])
    assert pair[1].percent == pytest.approx(-20.0)


def test_figures_of_the_cpu_change_too():
    (row, *_) = rows("bernoulli2")
    target = changed(row.machine(), {"host.start_us": 7.0, "clock_mhz": 500})
    assert (target.host.start_us, target.hardware.clock_mhz) == (7.0, 500)


def test_the_fit_goes_down_one_figure_at_a_time():
    steps = []

    def loss(figures):
        return abs(figures["a"] - 200) / 200 + abs(figures["b"] - 0.5)

    report = lambda name, value, error: steps.append(error)  # noqa: E731
    best = fit(loss, {"a": 100, "b": 2.0}, (1.25, 1.05, 1.01), report)
    assert isinstance(best["a"], int) and best["a"] == pytest.approx(200, rel=0.02)
    assert best["b"] == pytest.approx(0.5, rel=0.02)
    assert steps == sorted(steps, reverse=True)

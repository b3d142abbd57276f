"""README's table of modelled times is that of this version: it goes stale with a figure, with what
the passes do to a small net, and with a row."""

import re
from pathlib import Path

import pytest
import qatspec_horizon
from qatspec_horizon.published.fitting import Scored, score, sizes
from qatspec_horizon.published.table import MARCHES, figures_digest, rows

README = Path(qatspec_horizon.__file__).parent / "README.md"
TEXT = README.read_text("utf-8")
#: Published ms above which the rows of a march are not run for the page, which says so.
MOST = {"nash-p": 0.0}
#: A net of each march that compiles in a second: its time in the table is computed again.
SMALL = {
    "bernoulli2": "MobileNetv1",
    "bayes": "MobileNetV1",
    "bayes-e": "MobileNetv1",
    "nash-e": "EfficientNet_lite0",
}


def cells(march: str) -> list[list[str]]:
    """The table's rows of a march, without the march."""
    found = re.findall(rf"^\| {march} \| (.*) \|$", TEXT, re.MULTILINE)
    return [line.split(" | ") for line in found]


def scored(march: str) -> list[Scored]:
    """The rows of a march with the times that the table states."""
    known = rows(march)
    return [
        Scored(row=row, ms=float(stated[4]), ddr_mib=float(stated[6].split()[0]))
        for row, stated in zip(known, cells(march), strict=False)
    ]


@pytest.mark.parametrize("march", MARCHES)
def test_the_table_was_made_with_these_figures(march):
    if cells(march):
        assert f"Figures of `{march}`: {figures_digest(march)}" in TEXT


@pytest.mark.parametrize("march", MARCHES)
def test_every_row_is_in_the_table(march):
    expected = [row for row in rows(march) if row.ms <= MOST.get(march, row.ms)]
    found = cells(march)
    assert [(c[0], c[2], c[3]) for c in found] == [
        (row.model, "fit" if row.fits else "test", f"{row.ms:.3f}") for row in expected
    ]
    for stated, one in zip(found, scored(march), strict=True):
        digits = 100 * 0.0005 / one.row.ms + 0.051
        assert float(stated[5].removesuffix(" %")) == pytest.approx(one.percent, abs=digits)


@pytest.mark.parametrize("march", SMALL)
def test_a_small_net_takes_the_time_that_the_table_states(march):
    (stated,) = {(c[4], c[6]) for c in cells(march) if c[0] == SMALL[march]}
    (row, *_) = (row for row in rows(march) if row.model == SMALL[march])
    (now,) = score([row], "balance")
    assert (f"{now.ms:.3f}", f"{now.ddr_mib:.1f}") == stated


@pytest.mark.parametrize("march", ["bernoulli2", "bayes-e", "nash-e"])
def test_medians_are_those_of_the_rows(march):
    """In the summary, and in what `perf` prints beside every latency."""
    name = MARCHES[march][0]
    for part, fits in (("fit", True), ("test", False)):
        some = [one for one in scored(march) if one.row.fits == fits]
        errors = sizes(some)
        middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
        line = rf"\| `{name}`, {part} \| {len(errors)} \| ([\d.]+) % \| (\d+) % \|"
        ((median, worst),) = re.findall(line, TEXT)
        assert float(median) == pytest.approx(middle, abs=0.11)
        assert float(worst) == pytest.approx(errors[-1], abs=0.6)
    accuracy = MARCHES[march][1].hardware.accuracy
    words = rf"{len(errors)} rows that were not fitted: (\d+) % median, (\d+) % worst"
    ((median, worst),) = re.findall(words, accuracy)
    assert float(median) == pytest.approx(middle, abs=0.6)
    assert float(worst) == pytest.approx(errors[-1], abs=0.6)

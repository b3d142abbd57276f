"""Tables on terminals of 80 and 200 columns: nothing is cut, and what says nothing is left out."""

from __future__ import annotations

import pytest

from qatspec.cli.columns import Column, lines

HEAD = (
    Column("node", title=True),
    Column("dtype"),
    Column("dB", right=True),
    Column("code", title=True),
    Column("why", usual="observed"),
)
LONG = "backbone_stages_0_0_depthwise_conv_0"
ROWS = [
    (LONG, "qint8", "40.1", "my_package/networks/net.py:130", "observed"),
    ("head", "qint16", "9.5", "net.py:1", "not fused: its other operand is computed after it"),
]


def test_a_wide_terminal_has_one_line_for_each_row():
    assert lines(HEAD, ROWS, 200) == [
        [f"{'node':36}  dtype     dB  {'code':30}  why"],
        [f"{LONG}  qint8   40.1  my_package/networks/net.py:130"],
        [
            f"{'head':36}  qint16   9.5  {'net.py:1':30}  "
            "not fused: its other operand is computed after it"
        ],
    ]


def test_a_narrow_terminal_has_the_titles_above_the_figures():
    assert lines(HEAD, ROWS, 80)[1:] == [
        [f"{LONG}  my_package/networks/net.py:130", "  qint8   40.1"],
        [
            f"{'head':36}  net.py:1",
            "  qint16   9.5  not fused: its other operand is computed after it",
        ],
    ]  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_no_name_is_cut_and_only_names_are_longer_than_the_terminal(width):
    shown = lines(HEAD, ROWS, width)
    for row, printed in zip(ROWS, shown[1:], strict=True):
        words = " ".join(printed).split()
        expected = [word for cell in row if cell != "observed" for word in cell.split()]
        assert sorted(words) == sorted(expected)
        assert all(len(line) <= width or line.strip() in row for line in printed)


def test_a_column_of_usual_cells_is_left_out():
    assert "why" not in lines(HEAD, ROWS[:1], 200)[0][0]
    assert lines(HEAD, [], 200) == [["node  dtype  dB  code  why"]]


def test_a_text_that_is_too_long_is_wrapped_in_its_column_where_the_names_fit():
    rows = [*ROWS, ("neck", "qint8", "7.0", "net.py:2", "not fused: its other operand is late")]
    shown = lines(HEAD, rows, 125)
    start = shown[0][0].index("why")
    assert len(shown[0]) == len(shown[1]) == len(shown[3]) == 1, "a line where all fits"
    assert [line[start:] for line in shown[2]] == [
        "not fused: its other operand is computed", "after it",
    ]  # fmt: skip
    assert shown[2][1].strip() == "after it"


def test_a_column_of_usual_and_empty_cells_is_left_out():
    assert "why" not in lines(HEAD, [ROWS[0], ("a", "qint8", "1", "b.py:1", "")], 200)[0][0]

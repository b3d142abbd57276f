"""The four formats."""

import json
import re

import pytest

from qatspec.diag import Note, Span
from qatspec.diag.codes import QS101, QS201
from qatspec.render import FORMATS, render

TEXTS = {
    "a.yaml": "name: x\n  bitz: 8\n\u6a21\u578b: \u5927 \x1b[31m\n" + "k: " + "v" * 300 + "END\n"
}


def found(line, col, end, **more):
    span = Span("a.yaml", line, col, line, end)
    return QS201.diagnostic("unknown key `bitz`", span=span, **more)


def test_text_as_the_design_shows_it():
    text = render([found(2, 3, 7, help="did you mean `bits`?")], TEXTS)
    assert text == (
        "a.yaml:2:3: error[QS201]: unknown key `bitz`\n"
        "    2 |   bitz: 8\n"
        "      |   ^^^^\n"
        "  help: did you mean `bits`?"
    )


def test_carets_stand_under_wide_characters():
    lines = render([found(3, 5, 6)], TEXTS).splitlines()
    assert lines[2] == "      |" + " " * 7 + "^^"


def test_a_terminal_never_obeys_the_file():
    assert "\x1b" not in render([found(3, 5, 6)], TEXTS)


def test_long_lines_are_cut_around_the_place():
    lines = render([found(4, 304, 307)], TEXTS).splitlines()
    assert "END" in lines[1]
    assert len(lines[1]) < 130
    assert lines[1].index("END") == lines[2].index("^^^")


def test_without_the_text_the_place_alone():
    assert render([found(2, 3, 7)], {}) == "a.yaml:2:3: error[QS201]: unknown key `bitz`"
    whole = QS101.diagnostic("m", span=Span("b.bin"))
    assert render([whole], {}) == "b.bin: error[QS101]: m"


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("color", [False, True])
def test_words_are_wrapped_in_a_terminal(width, color):
    keys = "`prepare: {non_traceable_module_class: [net.Block]}`"
    words = " ".join(f"word{i}" for i in range(60))
    problem = found(2, 3, 7, help=f"{words} {keys} {words}", notes=(Note(words),))
    text = re.sub(r"\x1b\[\d*(;\d+)?m", "", render([problem], TEXTS, color=color, width=width))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert sum(keys in line for line in lines) == 1
    assert " ".join(text.split()) == " ".join(render([problem], TEXTS).split())
    assert all(line.startswith(("  ", "a.yaml")) for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_lines_of_a_file_fit_into_a_terminal(width):
    """The text at fault is in view, with as many carets as are above them."""
    for first, last in ((304, 307), (4, 9), (300, 560)):
        shown, carets = render([found(4, first, last)], TEXTS, width=width).splitlines()[1:3]
        assert len(carets) <= len(shown) <= width
        start = carets.index("^")
        assert carets.count("^") == min(last - first, len(shown.removesuffix("...")) - start)
        line = TEXTS["a.yaml"].splitlines()[3]
        assert line[first - 1 :].startswith(shown[start:].removesuffix("..."))


def test_a_span_beyond_the_text_is_no_crash():
    assert render([found(99, 1, 2)], TEXTS).count("\n") == 0
    assert "^" in render([found(1, 80, 90)], TEXTS)


def test_notes_show_their_own_lines():
    note = Note("first here", span=Span("a.yaml", 1, 1, 1, 5))
    text = render([found(2, 3, 7, notes=(note,))], TEXTS)
    assert "  note: first here\n   --> a.yaml:1:1\n    1 | name: x\n      | ^^^^" in text


def test_colour_adds_nothing_but_colour():
    items = [found(2, 3, 7, help="h", notes=(Note("n"),), origin="p (d==1)")]
    coloured = render(items, TEXTS, color=True)
    assert "\x1b[" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == render(items, TEXTS)


def test_json():
    (item,) = json.loads(render([found(2, 3, 7)], TEXTS, "json"))["diagnostics"]
    assert item["code"] == "QS201"
    assert item["span"] == {"file": "a.yaml", "line": 2, "col": 3, "end_line": 2, "end_col": 7}


def test_github_escapes():
    item = found(2, 3, 7, help="50%\nof it", severity="warning")
    assert render([item], TEXTS, "github") == (
        "::warning title=QS201,file=a.yaml,line=2,col=3,endLine=2,endColumn=7"
        "::unknown key `bitz`; 50%25%0Aof it"
    )


def test_sarif():
    loaded = json.loads(render([found(2, 3, 7), found(1, 1, 5)], TEXTS, "sarif"))
    (run,) = loaded["runs"]
    assert loaded["version"] == "2.1.0"
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == ["QS201"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 3, "endLine": 2, "endColumn": 7}


@pytest.mark.parametrize("name", ["text", "github"])
def test_nothing_found_in_lines(name):
    assert render([], {}, name) == ""


def test_nothing_found_in_documents():
    assert json.loads(render([], {}, "json"))["diagnostics"] == []
    assert json.loads(render([], {}, "sarif"))["runs"][0]["results"] == []
    assert set(FORMATS) == {"text", "json", "github", "sarif"}


def test_sarif_has_the_places_of_notes():
    note = Note("also `b`", span=Span("a.yaml", 1, 1, 1, 5))
    problem = found(2, 3, 7, notes=(note, Note("a fact")))
    (result,) = json.loads(render([problem], TEXTS, "sarif"))["runs"][0]["results"]
    (related,) = result["relatedLocations"]
    assert related["message"]["text"] == "also `b`"
    assert related["physicalLocation"]["region"]["startLine"] == 1

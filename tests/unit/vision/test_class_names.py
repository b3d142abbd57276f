"""Files of class names: names stay what is written, and nothing hostile is expanded."""

from __future__ import annotations

from pathlib import Path

import pytest
from qatspec_vision.data import xml_lines
from qatspec_vision.data.names import class_names

from qatspec.api import DiagnosticError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [no, yes, off, null, 1.0, 0x10, 2026-01-01]",
         ["no", "yes", "off", "null", "1.0", "0x10", "2026-01-01"]),
        ("names: {1: dog, 0: cat}", ["cat", "dog"]),
        ("mine: &a cat\nnames: [dog, *a]", ["dog", "cat"]),
        ("nc: 2\nnames: [cat, dog]", ["cat", "dog"]),
        ("names: {0: a, 1: b}\nnc: two", ["a", "b"]),
    ],
)  # fmt: skip
def test_names_of_yaml_are_texts(text: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(text)
    assert class_names("data.yaml", tmp_path).classes == expected


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        f"{LAUGHS}names: [*a11]", "names: &x {0: a, 1: *x}", "names: &x [*x]", "&x [*x]",
        "names: [[a]]", "names: [{a: b}]", "names: ['']", "names: {}", "names: []", "names: cat",
        "names: " + "[" * 5000, "names: {-1: a}", "names: {" + "9" * 5000 + ": a}",
        "names: {a: b}", "!!python/object/apply:os.getcwd []", "names: [a", "\0", "",
        "names: {? [a] : b}",
    ],
    ids=range(19),
)  # fmt: skip
def test_what_holds_no_names_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DiagnosticError, match="QS958"):
        class_names("data.yaml", tmp_path)


@pytest.mark.parametrize(
    "text", ["name,r,g,b\n" + "x" * 200_000 + ",1,2,3\n", f"a,{'9' * 5000},1,2\nb,1"]
)
def test_tables_of_colours_that_are_none_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(DiagnosticError, match="QS958"):
        class_names("classes.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("data.yaml", "nc: 3\nnames: [cat, dog]", 1, "`nc` says 3 classes, and `names` has 2"),
        ("data.yaml", "names: {0: a}\nnc: 2", 2, "`nc` says 2 classes"),
        ("data.yaml", "names:\n- cat\n- dog\n- cat", 4, "classes 0 and 2 have the same name"),
        ("a.txt", "cat\n\ndog\ndog\n", 4, "classes 1 and 2 have the same name, `dog`"),
        ("a.csv", "name,r,g,b\na,0,0,0\nb,1,1,1\na,2,2,2", 4, "classes 0 and 2"),
    ],
)
def test_classes_that_cannot_be_told_apart_or_counted(
    name: str, text: str, line: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DiagnosticError) as caught:
        class_names(name, tmp_path)
    (found,) = caught.value.diagnostics
    assert found.code == "QS958" and words in found.message
    assert found.span is not None and found.span.line == line


def test_a_list_of_a_spec_has_each_name_once(tmp_path: Path) -> None:
    assert class_names(["a", "b"], tmp_path).classes == ["a", "b"]
    with pytest.raises(DiagnosticError, match="classes 0 and 2 have the same name"):
        class_names(["a", "b", "a"], tmp_path)


@pytest.mark.parametrize("encoding", ["nonsense", "utf-7", "base64", "shift_jis", "big5"])
def test_an_encoding_that_is_not_known_is_no_xml(encoding: str) -> None:
    with pytest.raises(xml_lines.MalformedError):
        xml_lines.parse(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'.encode())

"""Edits of a text, and fixes written into files."""

import os
import stat

import pytest

from qatspec.diag import DiagnosticError, Edit, Fix, Span
from qatspec.diag.codes import QS201
from qatspec.source import apply_fixes
from qatspec.source.fixes import edited, place_fix


def span(line, col, end, file="spec.yaml"):
    return Span(file, line, col, line, end)


def found(file, *edits):
    made = tuple(Edit(span(*place, str(file)), text) for place, text in edits)
    return [QS201.diagnostic("m", fix=Fix("t", made))]


def test_edits_are_applied_in_order_of_place():
    text = "one: 1\r\ntwo: 2\u2028three: 3\n"
    edits = [Edit(span(3, 1, 6), "3rd"), Edit(span(1, 6, 7), "uno"), Edit(span(2, 1, 4), "zwei")]
    assert edited(text, edits) == "one: uno\r\nzwei: 2\u20283rd: 3\n"


def test_of_edits_that_overlap_the_first_stands():
    edits = [Edit(span(1, 1, 4), "a"), Edit(span(1, 2, 6), "b")]
    assert edited("abcdefg", edits) == "adefg"


def test_a_file_keeps_its_mark_line_ends_and_mode(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfkex: 1\r\n")
    path.chmod(0o640)
    assert len(apply_fixes(found(path, ((1, 1, 4), "key")), {str(path): "kex: 1\r\n"})) == 1
    assert path.read_bytes() == b"\xef\xbb\xbfkey: 1\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["spec.yaml"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.yaml", tmp_path / "link.yaml"
    target.write_text("kex: 1\n")
    link.symlink_to(target)
    apply_fixes(found(link, ((1, 1, 4), "key")), {str(link): "kex: 1\n"})
    assert link.is_symlink()
    assert target.read_text() == "key: 1\n"


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("other: 1\n")
    with pytest.raises(DiagnosticError, match="QS114") as caught:
        apply_fixes(found(path, ((1, 1, 4), "key")), {str(path): "kex: 1\n"})
    assert caught.value.diagnostics[0].span == Span(str(path))
    assert path.read_text() == "other: 1\n"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "spec.yaml"
    path.write_text("kex: 1\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qatspec.files.writing._create", refuse)
    with pytest.raises(DiagnosticError, match="Permission denied"):
        apply_fixes(found(path, ((1, 1, 4), "key")), {str(path): "kex: 1\n"})
    assert path.read_text() == "kex: 1\n"


@pytest.mark.parametrize(
    ("text", "place", "sure"),
    [
        ("march: j5", (1, 8, 10), True),
        ("march: ${vars.m}", (1, 8, 17), False),
        ("march: *m", (1, 8, 10), False),
        ("march: &m j5", (1, 8, 13), False),
        ("march:", (1, 7, 7), False),
    ],
)
def test_only_what_is_written_out_is_fixed(tmp_path, text, place, sure):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    fix = place_fix(Fix("t", text="bayes"), span(*place, str(path)), {str(path): text})
    assert (fix is not None) == sure


def test_the_command_line_is_not_fixed():
    assert place_fix(Fix("t", text="b"), span(1, 1, 3, "--set"), {"--set": "ab"}) is None

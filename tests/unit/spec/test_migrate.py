"""Version 2 is a matter of adding a step: shown with one that the language does not have."""

import pytest

from qatspec.diag import DiagnosticError, Edit
from qatspec.source import load_document
from qatspec.spec import migrate


def rename_march(document):
    return [Edit(document.span("/march", key=True), "chip")]


def test_version_1_is_the_newest(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("qatspec: 1\nmarch: bayes\n")
    assert migrate(path) == (1, [])
    assert path.read_text() == "qatspec: 1\nmarch: bayes\n"


def test_a_step_edits_the_file_that_holds_the_value(tmp_path):
    base, path = tmp_path / "base.yaml", tmp_path / "spec.yaml"
    base.write_text("# kept\nmarch: bayes\n")
    path.write_text("extends: base.yaml\nqatspec: 1  # kept too\n")
    was, edits = migrate(path, steps={1: rename_march}, newest=2)
    assert (was, len(edits)) == (1, 2)
    assert base.read_text() == "# kept\nchip: bayes\n"
    assert path.read_text() == "extends: base.yaml\nqatspec: 2  # kept too\n"
    assert load_document(path).data["chip"] == "bayes"
    assert migrate(path, steps={1: rename_march}, newest=2) == (2, [])


def test_two_steps(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("qatspec: 1\nmarch: bayes\n")
    migrate(path, steps={1: rename_march, 2: lambda document: []}, newest=3)
    assert path.read_text() == "qatspec: 3\nchip: bayes\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [("qatspec: 2\n", "QS207"), ("qatspec: '1'\n", "QS207"), ("qatspec: true\n", "QS207"),
     ("name: x\n", "QS202")],
)  # fmt: skip
def test_no_version_that_is_known(tmp_path, text, code):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(DiagnosticError) as caught:
        migrate(path)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.line) == (code, 1)

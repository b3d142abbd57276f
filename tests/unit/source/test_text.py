"""Files before YAML: size, encoding, byte order marks, line breaks."""

import pytest

from qatspec.diag import DiagnosticError
from qatspec.source import load_document, split_lines


def codes(error):
    return [d.code for d in error.value.diagnostics]


def test_too_large(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"# " + b"x" * (2 * 1024 * 1024))
    with pytest.raises(DiagnosticError) as error:
        load_document(path)
    assert codes(error) == ["QS109"]


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    document = load_document(path)
    assert document.data == {"name": "a"}
    assert document.span("/name", key=True).col == 1


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_utf16(tmp_path, mark):
    path = tmp_path / "wide.yaml"
    path.write_bytes("\ufeffname: a\n".encode(mark))
    with pytest.raises(DiagnosticError) as error:
        load_document(path)
    assert codes(error) == ["QS104"]
    assert "UTF-16" in error.value.diagnostics[0].message


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_breaks_of_every_system(tmp_path, newline):
    path = tmp_path / "a.yaml"
    path.write_bytes(newline.join(["name: a", "seed: 3", ""]).encode())
    document = load_document(path)
    assert document.data == {"name": "a", "seed": 3}
    span = document.span("/seed")
    assert (span.line, span.col) == (2, 7)
    assert split_lines(document.texts[str(path)])[span.line - 1] == "seed: 3"


def test_folder(tmp_path):
    with pytest.raises(DiagnosticError) as error:
        load_document(tmp_path)
    assert codes(error) == ["QS101"]
    assert "folder" in error.value.diagnostics[0].message


def test_a_path_that_cannot_be(tmp_path):
    with pytest.raises(DiagnosticError) as error:
        load_document(f"{tmp_path}/a\0b.yaml")
    assert codes(error) == ["QS101"]

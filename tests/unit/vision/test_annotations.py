"""A COCO file with any value of another type ends in a diagnostic that says where it is, or is read
without it; no value reaches pycocotools or numpy unchecked."""

from __future__ import annotations

import copy
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from qatspec_vision.data.annotations import read

from qatspec.diag import DiagnosticError
from tests.unit.vision.filled import open_coco

CONTENT = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 16, "height": 16},
        {"id": 2, "file_name": "b.png", "width": 16, "height": 16},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 8, 8], "area": 64, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [1.5, 2, 8, 8]},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
}
#: (what is written, a word of the message)
HOSTILE = {
    "id as text": (("images", 0, "id"), "1", '"1"; expected a whole number'),
    "id as real": (("images", 0, "id"), 1.0, "1.0; expected a whole number"),
    "id as boolean": (("images", 0, "id"), True, "true; expected a whole number"),
    "id null": (("categories", 1, "id"), None, "null; expected a whole number"),
    "id as list": (("annotations", 0, "image_id"), [1], "a list of 1; expected a whole number"),
    "id as mapping": (("annotations", 1, "category_id"), {}, "a mapping; expected a whole number"),
    "id beyond 64 bits": (("images", 0, "id"), 10**30, "expected a whole number"),
    "id not a number": (("images", 0, "id"), float("nan"), "NaN; expected a whole number"),
    "id twice": (("images", 1, "id"), 1, "images[0] and images[1] have the same id 1"),
    "category twice": (("categories", 1, "id"), 3, "have the same id 3"),
    "file name as number": (("images", 0, "file_name"), 5, "5; expected the name of a file"),
    "file name as list": (("images", 0, "file_name"), ["a.png"], "a list of 1; expected the name"),
    "file name empty": (("images", 0, "file_name"), "", "expected the name of a file"),
    "file name with NUL": (("images", 0, "file_name"), "a\0.png", "expected the name of a file"),
    "file name no text": (("images", 0, "file_name"), "\ud800", "expected the name of a file"),
    "width as text": (("images", 0, "width"), "16", "expected a number that is not negative"),
    "height negative": (("images", 0, "height"), -1, "expected a number that is not negative"),
    "area null": (("annotations", 0, "area"), None, "null; expected a number"),
    "area infinite": (("annotations", 0, "area"), float("inf"), "expected a number"),
    "crowd as text": (("annotations", 0, "iscrowd"), "0", '"0"; expected 0 or 1'),
    "crowd two": (("annotations", 0, "iscrowd"), 2, "2; expected 0 or 1"),
    "name as number": (("categories", 0, "name"), 5, "5; expected a text"),
    "entry as list": (("annotations", 1), [], "annotations[1] is a list of 0; expected a mapping"),
    "entry null": (("images", 0), None, "images[0] is null; expected a mapping"),
    "section as mapping": (("annotations",), {}, "`annotations` is a mapping; expected a list"),
    "section null": (("categories",), None, "`categories` is null; expected a list"),
}
BOXES = (
    None, "1,2,3,4", {}, 5, [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, "3", 4], [1, 2, None, 4],
    [1, 2, -3, 4], [1, 2, 0, 4], [1, 2, float("nan"), 4], [float("inf"), 2, 3, 4], [True, 2, 3, 4],
    [1, 2, 10**400, 4], [[1], 2, 3, 4], [1e300, 2, 3, 4],
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "val").mkdir()
    for name in "ab":
        Image.new("RGB", (16, 16)).save(root / "val" / f"{name}.png")
    return root


def written(root, content):
    path = root / "annotations" / "instances_val.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def changed(place, value):
    content = copy.deepcopy(CONTENT)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


def used(root):
    """The set, with every example read and two predictions judged."""
    params = {"root": str(root), "split": "val", "size": 16}
    data = open_coco(params, root, root)
    samples = [data.sample(i, np.random.default_rng(0)) for i in range(len(data))]
    one = {"boxes": np.array([[1.0, 2, 9, 10]]), "scores": np.ones(1), "labels": np.zeros(1, int)}
    metrics = data.evaluate([(sample.meta, one) for sample in samples])
    assert all(np.isfinite(value) for value in metrics.values())
    return data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_wrong_value_is_named_with_its_place(root, name):
    place, value, words = HOSTILE[name]
    path = written(root, changed(place, value))
    with pytest.raises(DiagnosticError) as caught:
        used(root)
    (found,) = caught.value.diagnostics
    assert found.code == "QS912" and words in found.message
    assert found.span.file == str(path)
    if len(place) > 1:
        assert f"{place[0]}[" in found.message, "the entry"


@pytest.mark.parametrize("box", BOXES, ids=lambda box: str(box)[:20])
def test_a_box_that_is_none_is_left_out_with_a_warning(root, box):
    written(root, changed(("annotations", 1, "bbox"), box))
    data = used(root)
    (warned,) = data.diagnostics
    assert warned.code == "QS913" and "1 annotations are omitted" in warned.message
    assert "annotations[1]: its bbox" in warned.message and "(image 2)" in warned.message
    assert len(warned.message) < 300


@pytest.mark.parametrize("key", ["id", "file_name"])
def test_a_missing_key_is_named(root, key):
    content = copy.deepcopy(CONTENT)
    del content["images"][1][key]
    path = written(root, content)
    with pytest.raises(DiagnosticError, match=rf"images\[1\].* has no `{key}`"):
        read(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = [
    (section, index, key)
    for section, entries in CONTENT.items()
    for index, entry in enumerate(entries)
    for key in entry
] + [(section, 0) for section in CONTENT] + [(section,) for section in CONTENT]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_at_any_place(root, place, value):
    written(root, changed(place, value))
    try:
        used(root)
    except DiagnosticError as error:
        assert {d.code for d in error.diagnostics} <= {"QS910", "QS912", "QS950"}


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"images": ' + b"[" * 100_000, b"\xff\xfe{", b"{", b"null", b"\0" * 9,
     b'{"images": [{"id": ' + b"9" * 5000 + b"}]}", b"<html>", b'{"images": NaN}'],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_what_is_no_json_mapping(root, content):
    path = written(root, content)
    with pytest.raises(DiagnosticError, match="QS912"):
        read(path)


def test_a_huge_file_of_zeros_is_refused_without_reading_it(root):
    path = written(root, b"")
    os.truncate(path, 1 << 40)
    with pytest.raises(DiagnosticError, match=r"does not start with"):
        read(path)
    with path.open("r+b") as file:
        file.write(b"{")
    with pytest.raises(DiagnosticError, match="larger than 8 GiB"):
        read(path)
    path.unlink()


def test_a_byte_order_mark_is_no_fault(root):
    written(root, b"\xef\xbb\xbf" + json.dumps(CONTENT).encode())
    assert len(used(root)) == 2


@pytest.mark.parametrize("key", ["annotations", "images"])
@pytest.mark.parametrize(
    "name", ["{0}", "{split.__class__}", "{split:>999999999}", "{", "a}b{split}"]
)
def test_braces_in_a_name_are_no_format(root, key, name):
    params = {"root": str(root), "split": "val", "size": 16, key: name}
    with pytest.raises(DiagnosticError) as caught:
        open_coco(params, root, root)
    (found,) = caught.value.diagnostics
    assert found.code == "QS910" and name.replace("{split}", "val") in found.message


@pytest.mark.parametrize("where", ["annotations", "pictures"])
def test_a_loop_of_links(root, tmp_path, where):
    written(root, CONTENT)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    params = {"root": str(root), "split": "val", "size": 16}
    params |= {"annotations": str(loop)} if where == "annotations" else {"images": str(loop)}
    with pytest.raises(DiagnosticError, match=r"QS910: .*form a loop"):
        open_coco(params, root, root)


def test_a_folder_that_may_not_be_listed(root, monkeypatch):
    written(root, CONTENT)
    real = os.scandir

    def refused(path):
        if str(path).endswith("val"):
            raise PermissionError(13, os.strerror(13), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DiagnosticError, match=r"QS910: .*it may not be read \(permissions\)"):
        used(root)

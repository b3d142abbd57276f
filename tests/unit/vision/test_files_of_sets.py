"""Files of data sets behind symbolic links, and what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from qatspec_vision.data.files import PICTURES, files, holds_pictures, pictures
from qatspec_vision.data.imagefolder_layout import class_names, locate

from qatspec.api import DiagnosticError
from qatspec.picture import suffixes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, of which one is a link, and a picture that is one."""
    for name in ("root/train/cat", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "root/train/cat/a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "elsewhere/b.jfif", "JPEG")
    (tmp_path / "root/train/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/train/cat/c.png").symlink_to("a.png")
    return tmp_path / "root"


def test_every_picture_that_pillow_reads_by_its_name_is_one() -> None:
    """Truevision's other suffixes (.icb, .vda, .vst) are left to other programs."""
    assert set(PICTURES) == suffixes() - {".icb", ".vda", ".vst"}


def test_links_are_followed(root: Path) -> None:
    assert sorted(files(root)) == ["train/cat/a.png", "train/cat/c.png", "train/dog/b.jfif"]
    params = {"root": ".", "split": "train"}
    found = locate(params, root)
    assert found.classes == class_names(params, root) == ["cat", "dog"]
    assert [label for _, label in found.entries] == [0, 0, 1]


@pytest.mark.parametrize("target", [".", "..", "../..", "loop", "other", "/"])
def test_loops_end(target: str, root: Path) -> None:
    if target == "/":
        target = str(root.parent)
    (root / "train/cat/loop").symlink_to(target)
    (root / "train/cat/other").symlink_to("loop")
    found = files(root)
    assert len(found) == len(set(found)) < 20
    assert pictures(root)


@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe"])
def test_a_picture_that_is_no_file_is_told(kind: str, root: Path) -> None:
    broken = root / "train/cat/d.png"
    os.mkfifo(broken) if kind == "pipe" else broken.symlink_to(
        "d.png" if kind == "loop" else "gone.png"
    )
    for call in (pictures, lambda r: locate({"root": ".", "split": "train"}, r)):
        with pytest.raises(DiagnosticError, match="QS910") as caught:
            call(root)
        assert caught.value.diagnostics[0].span.file == str(broken)
    assert "train/cat/d.png" not in files(root)
    broken.unlink()  # following the help
    assert len(pictures(root)) == 3


def test_a_folder_without_pictures_is_no_class(root: Path) -> None:
    (root / "train/notes").mkdir()
    (root / "train/notes/readme.txt").write_text("")
    assert not holds_pictures(root / "train/notes")
    params = {"root": ".", "split": "train"}
    assert locate(params, root).classes == class_names(params, root)


@pytest.mark.parametrize(("written", "meant"), [
    ({"root": "rooot", "split": "train"}, "root"),
    ({"root": "root", "split": "trian"}, "root/train"),
    ({"root": "elsewhere/pictures", "split": "train"}, None),
])  # fmt: skip
def test_a_misspelt_folder_is_answered_with_the_one_beside_it(
    written: dict[str, str], meant: str | None, root: Path
) -> None:
    with pytest.raises(DiagnosticError, match="QS910") as caught:
        locate(written, root.parent)
    advice = caught.value.diagnostics[0].help
    asked = f"did you mean `{root.parent / meant}`? " if meant else "`root`"
    assert (asked in advice) and ("did you mean" in advice) == bool(meant)

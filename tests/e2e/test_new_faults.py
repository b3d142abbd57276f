"""What `qatspec new DIR` says of folders that people have and it cannot use, or not wholly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.new_data import inspect
from qatspec.diag import DiagnosticError
from tests import sets
from tests.e2e.conftest import call

LABELME = {"version": "5.0", "shapes": [], "imagePath": "a.jpg", "imageData": None}
FORMS = {
    "LabelMe": ("a.json", json.dumps(LABELME)),
    "Label Studio": ("export.json", json.dumps([{"id": 1, "annotations": [], "data": {}}])),
    "the VGG Image Annotator": ("via.json", json.dumps({"_via_img_metadata": {}})),
    "Supervisely": ("a.jpg.json", json.dumps({"objects": [], "size": {}})),
    "Datumaro": ("default.json", json.dumps({"items": [], "categories": {}})),
    "CVAT": ("annotations.xml", "<annotations><image id='0' name='a.jpg'></image></annotations>"),
    "KITTI": ("label_2/a.txt", "Car 0.00 0 -1.5 100 100 200 200 1.5 1.6 3.9 1 1 8 -1.5\n"),
    "COCO": ("x.json", json.dumps({"images": [], "annotations": [], "categories": []})),
    "YOLO": ("my_txts/a.txt", "0 0.5 0.5 0.1 0.1\n"),
}


@pytest.mark.parametrize("tool", list(FORMS))
def test_labels_of_other_tools_are_named(
    folder: Path, tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the folder holds, who writes such labels, the way out, and the forms that are read."""
    name, text = FORMS[tool]
    (folder / "images").mkdir()
    for picture in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / "images" / picture)
    sets.write(folder / name, text)
    call("new", "pictures", code=1)
    err = capsys.readouterr().err
    assert "QS910" in err and f"labels in the form of {tool} are not read" in err
    assert f"2 files of .jpg, 1 file of {Path(name).suffix}" in err
    assert "`yolo_detection`, " in err and "`coco_detection`, " in err


def test_the_way_out_for_labels_of_yolo_in_a_folder_of_another_name(folder: Path) -> None:
    sets.yolo(folder, "images/{split}", "my_txts/{split}")
    with pytest.raises(DiagnosticError, match="form of YOLO"):
        inspect(folder)
    (folder / "my_txts").rename(folder / "labels")
    assert inspect(folder).counts == {"train": 4, "val": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [("nothing", "it holds no file"), ("pictures", "no label lies beside them"), ("notes", ".md")],
)
def test_a_folder_without_labels(folder: Path, content: str, words: str) -> None:
    if content == "pictures":
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    if content == "notes":
        sets.write(folder / "notes.md", "nothing")
        sets.write(folder / "broken.json", "{")
    with pytest.raises(DiagnosticError, match=words):
        inspect(folder)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("picture", "did you mean `pictures`?"),
        ("elsewhere/data", "there is no folder `elsewhere/data`"),
        ("data.zip", "is a file; give a folder of pictures and labels"),
        ("quickstat", "did you mean `quickstart`?"),
    ],
)
def test_a_path_that_is_no_folder(
    folder: Path, path: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.make_archive("data", "zip", folder)
    call("new", path, code=2)
    assert words in " ".join(capsys.readouterr().err.split())


def test_one_picture_cannot_be_parted(folder: Path) -> None:
    sets.yolo(folder, "images", "labels")
    first, *others = sorted((folder / "images").iterdir())
    for path in others:
        path.unlink()
    with pytest.raises(DiagnosticError, match="of 1 pictures there is no part for validation"):
        inspect(folder)
    Image.new("RGB", (48, 32)).save(folder / "images/second.jpg")
    assert inspect(folder).counts == {"train": 1, "val": 1}
    assert first.is_file()


@pytest.mark.parametrize("write", [sets.yolo, sets.voc])
def test_pictures_that_share_labels_are_told(
    folder: Path, write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder)
    inspect(folder)
    assert "QS959" not in capsys.readouterr().err
    path = next(folder.rglob("train_000.jpg"))
    Image.open(path).save(path.with_suffix(".png"))
    inspect(folder)
    err = capsys.readouterr().err
    assert "warning[QS959]" in err and "train_000.jpg` and `train_000.png`" in err, err


def test_what_will_be_left_out_is_told(folder: Path) -> None:
    """Pictures that cannot be read, formats that are not read, folders without pictures; a turned
    picture has the size that it is shown in."""
    sets.imagefolder(folder)
    paths = sorted(folder.rglob("*.jpg"))
    assert inspect(folder).data.notes == []
    (paths[0].parent.parent / "fish").mkdir()
    paths[0].write_bytes(b"no picture")
    paths[1].rename(paths[1].with_suffix(".HEIC"))
    turned = Image.open(paths[2])
    exif = turned.getexif()
    exif[274] = 6
    turned.save(paths[2], exif=exif)
    inspected = inspect(folder)
    said = "\n".join(inspected.data.notes)
    assert f"cannot be read and will be left out, the first is `{paths[0].name}`" in said
    assert "no picture in: `fish`" in said
    assert "not read: 1 pictures of `.heic`; save them as .png or .jpg" in said
    assert sets.SIZE in inspected.sizes and sets.SIZE[::-1] in inspected.sizes


KINDS = {
    "yolo": sets.yolo, "voc": sets.voc, "coco": sets.coco, "masks": sets.masks,
    "colours": lambda root: sets.masks(root, coloured=True), "imagefolder": sets.imagefolder,
    "table": sets.table,
}  # fmt: skip
TEXTS = ("data.yaml", "classes.txt", "classes.csv", "labels.csv")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_link_to_a_folder_above_adds_no_picture(folder: Path, kind: str) -> None:
    """Pictures of validation would be trained on."""
    KINDS[kind](folder)
    (next(folder.rglob("train_000.jpg")).parent / "above").symlink_to("..")
    assert inspect(folder).counts == {"train": 4, "val": 2}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_folder_beside_notes_is_entered(folder: Path, kind: str) -> None:
    KINDS[kind](folder / "inner")
    for name in ("README.txt", "LICENSE", "paper.pdf"):
        sets.write(folder / name, "about the set")
    inspected = inspect(folder)
    assert inspected.folder.name == "inner" and inspected.data.notes == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_texts_of_other_encodings(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """UTF-16 with its mark is read as it is; of others no character is replaced silently."""
    KINDS[kind](folder)
    files = [path for name in TEXTS for path in folder.rglob(name)]
    classes = inspect(folder).classes
    if kind == "coco":
        path = folder / "annotations/instances_train.json"
        path.write_bytes(path.read_text().encode("utf-16"))
        with pytest.raises(DiagnosticError, match="it is UTF-16 text; save it as UTF-8"):
            inspect(folder)
        return
    for path in files:
        path.write_bytes(path.read_text().encode("utf-16"))
    assert inspect(folder).classes == classes
    for path in files:
        path.write_bytes(path.read_text("utf-16").replace("dog", "hünd").encode("latin-1"))
    if not files:
        return
    call("new", "pictures", code=1)
    err = capsys.readouterr().err
    assert "is not UTF-8 text: line" in err and "holds the byte 0xFC" in err
    for path in files:
        path.write_text(path.read_text("latin-1"), "utf-8")
    assert "hünd" in inspect(folder).classes


@pytest.mark.parametrize(
    ("kind", "suffix", "way"),
    [("coco", ".JPG", "rename it as `train_001.jpg`"),
     ("coco", ".heic", "save it as `train_001.jpg`"),
     ("voc", ".heic", "save it as `train_001.jpg`"),
     ("table", ".jpeg", "rename it as `train_001.jpg`")],
)  # fmt: skip
def test_a_picture_under_another_name_is_told(
    folder: Path, kind: str, suffix: str, way: str
) -> None:
    """One picture that is not there hides no set: the message has its place and a way out."""
    KINDS[kind](folder)
    path = next(folder.rglob("train_001.jpg"))
    moved = path.rename(path.with_suffix(suffix))
    with pytest.raises(DiagnosticError) as caught:
        inspect(folder)
    (problem,) = caught.value.diagnostics
    assert f"{moved.name}` is there: {way}, or " in problem.help
    moved.rename(path)
    assert inspect(folder).counts == {"train": 4, "val": 2}


def test_a_damaged_annotation_file_hides_no_split(folder: Path) -> None:
    """Its split is not replaced by another one."""
    sets.coco(folder)
    path = folder / "annotations/instances_train.json"
    text = path.read_text()
    path.write_text(text[:-20])
    with pytest.raises(DiagnosticError, match=r"instances_train.json` is not a COCO detection"):
        inspect(folder)
    path.rename(folder / "annotations/other_train.json")  # another kind of file, and no boxes
    (folder / "annotations/other_train.json").write_text("{}")
    assert "there is no split for validation" in "".join(inspect(folder).data.notes)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_boxes_outside_of_their_picture_are_told(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind](folder)
    inspect(folder)
    assert "QS913" not in capsys.readouterr().err
    if kind == "coco":
        path = folder / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        content["annotations"][1]["bbox"] = [100, 100, 10, 10]
        path.write_text(json.dumps(content))
    else:
        path = next(folder.rglob("train_001.xml"))
        path.write_text(path.read_text().replace("<xmax>", "<xmax>9"))
    inspect(folder)
    err = capsys.readouterr().err
    assert (
        "warning[QS913]: 1 boxes reach out of their pictures, the first of `train_001.jpg`" in err
    )
    assert "in 48 x 32 pixels" in err


def test_a_stray_number_in_a_mask_renames_no_class(folder: Path) -> None:
    sets.masks(folder)
    path = folder / "masks/train/train_001.png"
    mask = np.array(Image.open(path))
    mask[:2] = 77
    Image.fromarray(mask).save(path)
    inspected = inspect(folder)
    assert inspected.classes == ["background", *sets.NAMES]
    assert "no class in `classes.txt`: 77; write them into the param `ignore`" in "".join(
        inspected.data.notes
    )


def test_a_mask_of_two_pictures_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.masks(folder)
    path = next(folder.rglob("images/train/train_001.jpg"))
    Image.open(path).save(path.with_suffix(".png"))
    inspect(folder)
    assert "`train_001.jpg` and `train_001.png` have one mask" in capsys.readouterr().err


def test_a_picture_with_too_many_pixels_is_told(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    sets.imagefolder(folder)
    path = next(folder.rglob("train_001.jpg"))
    path.write_bytes(b"P6 12000 9000 255\n")  # a file of that size is not decoded either
    assert "cannot be read and will be left out, the first is `train_001.jpg`" in "".join(
        inspect(folder).data.notes
    )
    assert not recwarn.list


@pytest.mark.parametrize("start", ["/home/me/data/train/", "C:\\data\\train\\", "train\\", "./"])
def test_coco_files_of_another_machine(folder: Path, start: str) -> None:
    """Paths from the root, and separators of Windows, as Label Studio writes them there."""
    sets.coco(folder)
    path = folder / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"{start}{image['file_name']}"
    path.write_text(json.dumps(content))
    call("new", "pictures")
    call("plan", "specs/pictures.yaml")  # digests the pictures
    assert inspect(folder).counts == {"train": 4, "val": 2}


def test_a_damaged_file_of_names_is_told(folder: Path) -> None:
    sets.yolo(folder)
    (folder / "data.yaml").write_text("train: images/train\nnames: [cat, dog, bird\n")
    with pytest.raises(DiagnosticError, match="it is not YAML"):
        inspect(folder)


def test_a_picture_of_two_classes_is_told(folder: Path) -> None:
    sets.table(folder)
    path = folder / "labels.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, rows[1], rows[1].replace("cat", "dog")]))
    with pytest.raises(DiagnosticError, match=r"is `dog` here and `cat` in line 2") as caught:
        inspect(folder)
    (problem,) = caught.value.diagnostics
    assert problem.span is not None and problem.span.line == len(rows) + 2


def test_masks_in_jpeg_are_named(folder: Path) -> None:
    sets.masks(folder)
    for path in (folder / "masks").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(DiagnosticError, match="labels in the form of masks in JPEG are not read"):
        inspect(folder)


def test_a_test_set_without_labels_is_not_validated_on(folder: Path) -> None:
    sets.coco(folder)
    path = folder / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    path.unlink()
    (folder / "val").rename(folder / "test")
    text = json.dumps({**content, "annotations": []})
    (folder / "annotations/instances_test.json").write_text(text)
    roles = inspect(folder).data.roles
    assert {role: params["split"] for role, params in roles.items()} == {
        "train": "train", "val": "train",
    }  # fmt: skip

"""`qatspec new DIR`: a spec for a folder of pictures and labels of each format, which validates,
plans and runs as it was written."""

from __future__ import annotations

import importlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.main import run
from qatspec.cli.new_data import draft, inspect
from qatspec.cli.new_tasks import TASKS
from qatspec.diag import DiagnosticError
from qatspec.registry import registry
from qatspec.spec import load
from tests import sets
from tests.e2e.conftest import call
from tests.sample import without

KINDS: dict[str, tuple[Any, str]] = {
    "yolo": (sets.yolo, "yolo_detection"),
    "yolo of Roboflow": (
        lambda root: sets.yolo(root, "{split}/images", "{split}/labels"), "yolo_detection"
    ),
    "yolo side by side": (lambda root: sets.yolo(root, "{split}", "{split}"), "yolo_detection"),
    "voc": (sets.voc, "voc_detection"),
    "voc of Roboflow": (lambda root: sets.voc(root, flat=True), "voc_detection"),
    "coco": (sets.coco, "coco_detection"),
    "masks": (sets.masks, "mask_segmentation"),
    "coloured masks": (lambda root: sets.masks(root, coloured=True), "mask_segmentation"),
    "table": (sets.table, "csv_classification"),
    "folders": (sets.imagefolder, "imagefolder_classification"),
}  # fmt: skip
LAYOUTS = ["yolo", "voc", "coco", "masks", "coloured masks", "table", "folders"]
#: What makes a run of a few pictures short.
SHORT = (
    "vars.float_epochs=1", "vars.qat_epochs=1", "vars.calibration_steps=2",
    "model.params.backbone.width=0.1", "model.params.backbone.depth=0.1", "stages.compile.opt=O0",
)  # fmt: skip
SMALLER = {
    "detection": ("model.params.neck.stacks=1", "model.params.head.convs=1",
                  "model.params.neck.channels=16", "model.params.head.channels=16"),
    "segmentation": ("model.input.size=[64, 64]",),
    "classification": (),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_spec_validates_and_plans(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, name = KINDS[kind]
    write(folder)
    call("new", "pictures")
    out, err = capsys.readouterr()
    assert name in out and "4 for train, 2 for val" in out and "48 x 32" in out, out
    assert all(label in out for label in sets.NAMES)
    call("validate", "specs/pictures.yaml")
    call("plan", "specs/pictures.yaml")
    assert "warning" not in err and capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", without(LAYOUTS, "voc", "coloured masks"))
def test_the_spec_runs(kind: str, folder: Path) -> None:
    KINDS[kind][0](folder)
    call("new", "pictures")
    task = inspect(folder).data.task
    short = [f"--set={one}" for one in (*SHORT, *SMALLER[task])]
    call("run", "specs/pictures.yaml", "--device", "cpu", *short)
    assert Path("runs/pictures/compile/pictures.bin").is_file()


@pytest.mark.parametrize("kind", ["masks", "yolo", "folders"])
def test_the_input_has_a_size_that_the_march_can_resize(kind: str, folder: Path) -> None:
    """The segmenter resizes the mean of the picture, which is one pixel."""
    KINDS[kind][0](folder)
    inspected = inspect(folder)
    task = TASKS[inspected.data.task]
    for size in [(288, 288), (320, 240), (96, 500), (20, 2000), (640, 360), (4000, 3000)]:
        for march in ["bernoulli2", "bayes", "onnxruntime"]:
            found = replace(inspected, sizes=[size[::-1]]).input_size(task, march)
            assert all(0 < side <= 512 and side % 32 == 0 for side in found), (size, march)
            if march == "bernoulli2":
                assert all((side & (side - 1)) == 0 for side in found), size


@pytest.mark.parametrize("side, tried", [(640, [128, 128]), (100, None)])
@pytest.mark.parametrize("kind", ["masks", "yolo"])
def test_smoke_runs_take_small_pictures(kind: str, side: int, tried: Any, folder: Path) -> None:
    KINDS[kind][0](folder)
    inspected = replace(inspect(folder), sizes=[(side, side)])
    spec = folder.parent / "pictures.yaml"
    spec.write_text(draft(inspected, "pictures", folder.parent, "bayes", None).text())
    size, small = (load(spec, smoke=smoke).input.size for smoke in (False, True))
    assert list(small) == (tried or list(size))


@pytest.mark.slow
@pytest.mark.parametrize("march", ["bernoulli2", "onnxruntime"])
@pytest.mark.parametrize("kind", without(["masks", "folders"], "folders"))
def test_the_spec_runs_on_other_marches(kind: str, march: str, folder: Path) -> None:
    KINDS[kind][0](folder)
    for path in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        Image.open(path).resize((97, 90), Image.Resampling.NEAREST).save(path)
    call("new", "pictures", "--march", march)
    short = [f"--set={one}" for one in SHORT if march != "onnxruntime" or "opt" not in one]
    call("run", "specs/pictures.yaml", "--device", "cpu", *short)


def test_a_set_without_splits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.yolo(folder, "images", "labels")
    (folder / "data.yaml").unlink()
    call("new", "pictures")
    out = capsys.readouterr().out
    assert "no split for validation" in out and "classes: 3: 0, 1, 2" in out
    data = load("specs/pictures.yaml").data
    assert [data[role].dataset.params["part"] for role in ("train", "val")] == ["train", "val"]
    call("plan", "specs/pictures.yaml")


@pytest.mark.parametrize("levels", [(0, 255), (0, 80, 160, 240), (3, 4)])
def test_masks_of_any_levels(folder: Path, levels: tuple[int, ...]) -> None:
    """Black and white, levels of grey, and numbers that do not begin with 0."""
    for place in ("images", "masks"):
        (folder / place).mkdir()
    for number in range(4):
        pixels = np.zeros((32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")
        mask = np.array(levels, np.uint8)[np.arange(32 * 48).reshape(32, 48) % len(levels)]
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    assert (found := inspect(folder)).definition.name == "mask_segmentation"
    assert len(found.classes) == (5 if levels == (3, 4) else len(levels))
    assert sum(found.counts.values()) == 4


def test_a_class_without_pictures_in_one_split(folder: Path) -> None:
    sets.imagefolder(folder)
    shutil.rmtree(folder / "val/bird")
    assert inspect(folder).classes == sorted(sets.NAMES)


def test_classes_that_only_one_split_has(folder: Path) -> None:
    sets.coco(folder)
    path = folder / "annotations/instances_val.json"
    path.write_text(path.read_text().replace('"bird"', '"cow"'))
    with pytest.raises(DiagnosticError) as caught:
        inspect(folder)
    (found,) = caught.value.diagnostics
    assert found.code == "QS918" and "only train has `bird`" in found.message


def test_faults_of_labels_are_told_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets.yolo(folder)
    (folder / "labels/train/train_001.txt").write_text("0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n")
    call("new", "pictures", code=1)
    err = capsys.readouterr().err
    assert "train_001.txt:2:1: error[QS958]" in err and "7 0.5 0.5" in err
    assert not Path("specs").exists()


@pytest.mark.parametrize("several", [False, True])
def test_a_table_with_a_column_for_each_class(
    folder: Path, several: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture is of one class; marks of several are no classification."""
    rows, labels = [",".join(["image", *sets.NAMES])], []
    for one in sets.drawn("train"):
        one.save(folder)
        marks = [n == one.label or (several and n == 0) for n in range(3)]
        rows.append(",".join([f"{one.name}.jpg", *(str(int(mark)) for mark in marks)]))
        labels.append(one.label)
    sets.write(folder / "labels.csv", "\n".join(rows))
    call("new", "pictures", "--output", ".", code=int(several))
    if several:
        assert "QS910" in capsys.readouterr().err
        return
    role = load("pictures.yaml").data["train"].dataset
    assert role.params["label_columns"] == role.params["classes"] == [*sets.NAMES]
    every = {k: v for k, v in role.params.items() if k != "part"}
    data = registry().dataset(role.type).open(every, folder, Path.cwd())
    rng = np.random.default_rng(0)
    assert [int(data.sample(i, rng).target["label"]) for i in range(len(data))] == labels


@pytest.mark.parametrize("with_folder", [True, False])
@pytest.mark.parametrize("name", ["timm:tiny", "timm:tiny.a1", "timm:bare", "torchvision:tiny"])
def test_a_classifier_of_a_library(
    name: str, with_folder: bool, folder: Path, libraries: None, capsys: Any
) -> None:
    sets.imagefolder(folder)
    call("new", *(["pictures"] if with_folder else []), "--from", name, "--output", ".")
    out = capsys.readouterr().out
    assert ("begins untrained" in out) == (name == "timm:bare")
    library, _, model = name.partition(":")
    file = "pictures.yaml" if with_folder else f"{model}.yaml"
    assert f"next: qatspec run --smoke {file} (two steps of each stage)" in out
    assert (f"then: qatspec run {file}" in out) == with_folder
    spec = load(file)
    assert (spec.model.type, spec.model.params["name"]) == (library, model)
    trained = {"timm": {"pretrained": name != "timm:bare"}, "torchvision": {"weights": "DEFAULT"}}
    assert trained[library].items() <= spec.model.params.items()
    assert spec.model.params.get("num_classes") == (3 if with_folder else None)
    assert spec.input.size == (160, 192) and spec.input.scale is None
    assert spec.input.mean == (127.5, 127.5, 127.5) and spec.input.std == (127.5, 63.75, 127.5)
    assert spec.data["val"].dataset.params["mean"] == list(spec.input.mean)
    untrained = load(file, smoke=True).model.params
    assert not untrained.get("pretrained") and not untrained.get("weights")
    if with_folder:
        call("validate", file)
    else:
        call("validate", file, code=1)
        assert "no such folder: `imagenet/train`" in capsys.readouterr().err


@pytest.mark.slow
def test_the_spec_of_a_classifier_runs_without_data(folder: Path, libraries: None) -> None:
    call("new", "--from", "torchvision:tiny", "--output", ".", "--march", "onnxruntime")
    call("run", "tiny.yaml", "--smoke", "--device", "cpu")
    assert Path("runs/tiny-smoke/compile/tiny-onnxruntime.onnx").is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:tinny", "no classifier `tinny`|did you mean `tiny`?"),
        ("timm:tiny.a2", "no classifier `tiny.a2`|did you mean `tiny.a1`?"),
        ("timm:zzzzzz", "no classifier `zzzzzz`|qatspec explain QS917"),
        ("torchvision:tinny", "no classifier `tinny`|did you mean `tiny`?"),
    ],
)
def test_a_name_that_a_library_does_not_have(
    name: str, words: str, folder: Path, libraries: None, capsys: Any
) -> None:
    call("new", "--from", name, code=1)
    err = capsys.readouterr().err
    assert "QS917" in err and all(word in err for word in words.split("|")), err
    assert not Path("specs").exists()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(
    ("there", "code"), [(None, "QS915"), (RuntimeError("operator nms does not exist"), "QS917")]
)
def test_a_library_that_cannot_be_used(
    library: str, there: Any, code: str, folder: Path, monkeypatch: Any, capsys: Any
) -> None:
    """It is not installed, or was built for another torch."""
    real = importlib.import_module

    def failing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] != library:
            return real(name, *rest)
        raise there or ModuleNotFoundError(f"No module named {name!r}", name=library)

    monkeypatch.setattr(importlib, "import_module", failing)
    call("new", "--from", f"{library}:resnet18", code=1)
    assert code in capsys.readouterr().err and not Path("specs").exists()


@pytest.mark.parametrize("march", ["bayes", "bernoulli2", "onnxruntime"])
def test_the_presets_are_those_of_the_march(march: str, folder: Path) -> None:
    sets.imagefolder(folder)
    call("new", "pictures", "--march", march)
    text = Path("specs/pictures.yaml").read_text()
    names = re.findall(r"qconfig: (\w+)", text)
    call("validate", "specs/pictures.yaml")
    mine = march if march == "onnxruntime" else "horizon"
    assert names == [f"{mine}_calibration", f"{mine}_calibrated"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("new", "pictures", "--from", "resnet18"),
        ("new", "pictures", "--from", "keras:resnet18"),
        ("new", "pictures", "--from", "timm:"),
        ("new", "--from", "efficientnet:b0"),
        ("new", "quickstart", "--from", "timm:tiny"),
        ("new", "pictures", "--from", "timm:tiny"),
    ],
)
def test_what_from_does_not_take(arguments: tuple[str, ...], folder: Path, libraries: None) -> None:
    """The last one names a detection set."""
    sets.yolo(folder)
    call(*arguments, code=2)
    assert not Path("specs").exists()


@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [
        ("yolo", "labels/val/val_000.txt", "val_000.txt"),
        ("voc of Roboflow", "val/val_000.xml", "val_000.xml"),
        ("voc", "ImageSets/Main/val.txt", "val.txt"),
        ("coco", "annotations/instances_val.json", "`instances_val.json` is not a COCO detection"),
    ],
)
def test_a_fault_in_the_first_file_does_not_hide_a_split(
    kind: str, file: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind][0](folder)
    path = folder / file
    text = path.read_text()
    path.write_text("?" + text if kind != "coco" else text[: len(text) // 2])
    run(["new", "pictures"])
    out, err = capsys.readouterr()
    assert words in out + err, out + err


@pytest.mark.parametrize("content", ["nothing", "pictures alone", "texts alone"])
def test_a_folder_that_is_no_set(
    folder: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content == "pictures alone":
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    if content == "texts alone":
        (folder / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    call("new", "pictures", code=1)
    assert "QS910" in capsys.readouterr().err and not Path("specs").exists()


@pytest.mark.parametrize("below", [("",), ("cat",), ("train/cat", "val/cat")])
def test_pictures_of_one_class(
    below: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in below:
        (folder / part).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / part / f"{i}.png")
    call("new", "pictures", code=1)
    err = " ".join(capsys.readouterr().err.split())
    assert "are of one class at most" in err and "two or more beside each other" in err
    for part in below if below != ("",) else ():  # what the help says
        path = folder / part
        (path.with_name("dog")).mkdir()
        Image.new("RGB", (8, 8), (99, 0, 0)).save(path.with_name("dog") / "a.png")
    if below != ("",):
        call("new", "pictures")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_picture_in_train_and_in_val(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind][0](folder)
    call("new", "pictures", "--output", "before")
    assert "QS965" not in capsys.readouterr().out
    pictures = [path for path in sorted(folder.rglob("*.[pj][np]g")) if "mask" not in str(path)]
    train = next(path for path in pictures if "train" in str(path))
    val = next(path for path in pictures if "val" in str(path))
    shutil.copy(train, val)
    call("new", "pictures", "--output", "after")
    out = " ".join(capsys.readouterr().out.split())
    assert "a picture is in train and in val" in out and val.name in out


def test_what_is_there_is_never_overwritten(folder: Path) -> None:
    sets.yolo(folder)
    call("new", "pictures")
    text = Path("specs/pictures.yaml").read_text()
    call("new", "pictures", code=1)
    assert Path("specs/pictures.yaml").read_text() == text


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco", "masks", "table", "folders"])
def test_odd_names_and_folders_in_folders(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Classes and folders whose names YAML would take for something else; what macOS leaves; and
    folders that an archive puts around the set."""
    monkeypatch.chdir(tmp_path)
    odd = ("no", "1.5", "it's: {a} # \u2028${x} \u00e9")
    monkeypatch.setattr(sets, "NAMES", odd)
    folder = tmp_path / "my set: 'x' ${y}" / "unpacked" / "data"
    folder.mkdir(parents=True)
    KINDS[kind][0](folder)
    for path in list(folder.rglob("*.jpg")):
        path.with_name(f"._{path.name}").write_bytes(b"junk")
    (tmp_path / "my set: 'x' ${y}" / "__MACOSX").mkdir()
    call("new", "my set: 'x' ${y}")
    (spec,) = Path("specs").glob("*.yaml")
    call("validate", str(spec))
    call("plan", str(spec))
    names = list(inspect(folder).classes)
    assert sorted(names) == sorted(["background", *odd] if kind == "masks" else odd)


def test_templates_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    call("new", "--list")
    assert capsys.readouterr().out.startswith("quickstart  From real handwritten digits")
    call("new", "nowhere", code=2)
    call("new", code=2)

"""`infer` on pictures, folders and videos, for data sets that read pictures and those that do not,
and on files that say themselves how pictures become their input."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.reader import Reader
from qatspec.diag import DiagnosticError, PluginFault
from qatspec.spec import load
from qatspec.types import Sample

MODEL = "work/qat/qat-checkpoint-best.pth.tar"
RNG = np.random.default_rng(0)


@pytest.fixture
def toy(copy):
    """A finished project with the folder `in`: two pictures."""
    (copy.folder / "in").mkdir()
    for number in range(2):
        pixels = RNG.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(copy.folder / "in" / f"{number}.png")
    return copy


def infer(project, *arguments, code=0):
    result = project.call(
        "infer", "toy.yaml", "--model", MODEL, "--output", "out", "--allow-code",
        "--workdir", "work", "--device", "cpu", "--stale", *arguments,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


def inputs_of(project):
    content = json.loads((project.folder / "out/predictions.json").read_text())
    return [entry["input"] for entry in content["predictions"]]


def test_a_data_set_without_read(toy):
    """`model.input` says how pictures are read."""
    plugin = toy.folder / "toy_plugin.py"
    plugin.write_text(plugin.read_text().replace("def read(", "def other("))
    infer(toy, "--input", "in")
    assert inputs_of(toy) == ["0.png", "1.png"]


def test_folders_in_folders(toy):
    """A folder for each class, with pictures of one name; hidden files and the results of an
    earlier run in the same folder are no inputs."""
    (toy.folder / "in/b").mkdir()
    (toy.folder / "in/a/c").mkdir(parents=True)
    for place in ("in/b", "in/a/c"):
        for name in ("0.png", "._0.png"):
            (toy.folder / place / name).write_bytes((toy.folder / "in/0.png").read_bytes())
    (toy.folder / "in/.cache").mkdir()
    (toy.folder / "in/.cache/0.png").write_bytes((toy.folder / "in/0.png").read_bytes())
    for _ in range(2):
        infer(toy, "--input", "in", "--output", "in/out")
        content = json.loads((toy.folder / "in/out/predictions.json").read_text())
        told = {entry["input"]: entry["output"] for entry in content["predictions"]}
        assert list(told) == ["0.png", "1.png", "a/c/0.png", "b/0.png"]
        assert len(set(told.values())) == 4


def test_a_file_for_other_runtimes(toy):
    """The message names a file of the same model, and that one runs."""
    convert = toy.folder / "work/convert"
    (given,) = convert.glob("*-qat.onnx")
    result = infer(toy, "--input", "in", "--model", given.relative_to(toy.folder), code=1)
    named = re.search(r"give `([^`]+)`, the same model", result.stderr)
    assert "QS924" in result.stderr and named, result.stderr
    infer(toy, "--input", "in", "--model", (convert / named[1]).relative_to(toy.folder))
    assert inputs_of(toy) == ["0.png", "1.png"]


def test_a_checkpoint_without_its_spec(toy):
    """The command that the message names runs."""
    result = toy.call(
        "infer", "work/qat/qat-checkpoint-best.pth.tar", "--input", "in", "--output", "x"
    )
    assert result.returncode == 1 and "holds weights, and no model" in result.stderr
    named = re.search(r"`qatspec infer SPEC --model (\S+)`", result.stderr)
    infer(toy, "--input", "in", "--model", named[1])
    assert inputs_of(toy) == ["0.png", "1.png"]


def write_video(path, frames):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in range(frames):
            pixels = np.full((32, 32, 3), 40 * level, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_videos_frame_by_frame(toy):
    write_video(toy.folder / "in/film.mp4", 5)
    infer(toy, "--input", "in")
    frames = [f"film-{number:06d}.mp4" for number in range(5)]
    assert inputs_of(toy) == ["0.png", "1.png", *frames]
    infer(toy, "--input", "in/film.mp4", "--every", "2")
    assert inputs_of(toy) == frames[::2]


def test_a_broken_video(toy):
    write_video(toy.folder / "film.mp4", 5)
    whole = (toy.folder / "film.mp4").read_bytes()
    (toy.folder / "in/film.mp4").write_bytes(whole[: len(whole) // 3])
    assert "QS923" in infer(toy, "--input", "in/film.mp4", code=1).stderr
    result = infer(toy, "--input", "in")
    assert "warning[QS923]" in result.stderr and inputs_of(toy) == ["0.png", "1.png"]


def test_a_video_without_its_package(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (toy.folder / "film.mov").write_bytes(b"")
    result = infer(toy, "--input", "film.mov", code=1)
    assert "QS915" in result.stderr and "qatspec[video]" in result.stderr


def test_files_that_record_how_pictures_become_their_input(project):
    """Alone and with the spec, the same integers."""
    project.run("model.input.mean=[120, 110, 100]", "model.input.scale=null")
    pixels = RNG.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(project.folder / "a.png")
    Image.new("RGB", (32, 16)).save(project.folder / "wide.png")
    real = ((pixels - np.array([120, 110, 100])) / 128).transpose(2, 0, 1)[None]
    for number, file in enumerate(("convert/toy.program", "convert/toy-converted.onnx",
                                   "compile/toy.bin")):  # fmt: skip
        out = f"out{number}"
        result = project.call("infer", f"work/{file}", "--input", "a.png", "--output", out)
        assert result.returncode == 0, result.stderr
        with np.load(project.folder / out / "a.npz") as arrays:
            found = {name: arrays[name] for name in arrays.files}
        result = project.call("infer", f"work/{file}", "--input", "wide.png", "--output", "other")
        assert result.returncode == 1 and "the model takes 16 x 16" in result.stderr
        if number == 0:
            from qatspec.program import load_program

            program = load_program(project.workdir / file)
            wanted = program.quantize(real.astype(np.float32))[0]
            first = found
        assert np.array_equal(found["images"], wanted)
        assert all(np.array_equal(found[name], first[name]) for name in first)


READS = """image, meta = ModelInput(size=(16, 16), crop=0.8).read(path)
        return Sample(image, {}, meta)
        try:
            with Image"""


def test_files_take_pictures_of_any_size_as_the_data_set_does(project):
    """Alone and with the spec, the same integers, where the data set says how it fits pictures."""
    plugin = project.folder / "toy_plugin.py"
    text = plugin.read_text().replace("try:\n            with Image", READS)
    text = text.replace("import DatasetDef", "import ModelInput, DatasetDef")
    said = 'metric="accuracy", fitting=lambda params: {"crop": 0.8},'
    plugin.write_text(text.replace('metric="accuracy",', said))
    project.run("stages.float.trainer.epochs=1")
    for name, size in (("wide", (20, 50, 3)), ("tall", (40, 9, 3))):
        pixels = RNG.integers(0, 255, size, dtype=np.uint8)
        Image.fromarray(pixels).save(project.folder / f"{name}.png")
    with_spec = ("toy.yaml", "--workdir", "work", "--allow-code", "--stale", "--model")
    for number, file in enumerate(("convert/toy-converted.onnx", "compile/toy.bin")):
        picture = ("wide.png", "tall.png")[number]
        held = []
        for way, before in (("alone", ()), ("spec", with_spec)):
            out = f"{way}{number}"
            result = project.call(
                "infer", *before, f"work/{file}", "--input", picture, "--output", out
            )
            assert result.returncode == 0, result.stderr
            with np.load((project.folder / out / picture).with_suffix(".npz")) as arrays:
                held.append({name: arrays[name] for name in arrays.files})
        assert all(np.array_equal(held[0][name], held[1][name]) for name in held[0])
        assert len(np.unique(held[0]["images"])) > 50, "the picture is in the integers"


SPEC = """
qatspec: 1
name: own
march: bayes
model:
  type: efficientnet
  params: {num_classes: 3}
  input: {size: [20, 40], CHANNELS}
data:
  train: {type: imagefolder_classification, params: {root: ., made_up: 3}}
  val: {type: imagefolder_classification, params: {root: ., made_up: 3}}
stages: {float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.01}}}}
"""


def reader(tmp_path, dataset, channels="channels: 3"):
    (tmp_path / "spec.yaml").write_text(SPEC.replace("CHANNELS", channels))
    return Reader(load(tmp_path / "spec.yaml"), dataset)


class Reads:
    """A user's set, which says nothing of where pictures lie."""

    classes = ("a",)

    def read(self, path):
        return Sample(np.zeros((3, 20, 40), np.float32), {}, {"id": path.name})


class ReadsAndRestores(Reads):
    def restore(self, meta, boxes):
        return boxes + 1

    def restore_mask(self, meta, mask):
        return mask + 1


def test_predictions_go_back_to_the_picture(tmp_path):
    Image.new("RGB", (80, 20)).save(tmp_path / "a.png")
    plain = reader(tmp_path, SimpleNamespace(classes=("a",)))
    sample = plain.read(tmp_path / "a.png")
    assert sample.image.shape == (3, 20, 40)
    assert plain.restore(sample.meta, np.array([[0.0, 0, 20, 5]])).tolist() == [[0, 0, 40, 10]]
    assert plain.restore_mask(sample.meta, np.zeros((20, 40), np.uint8)).shape == (20, 80)
    own = reader(tmp_path, ReadsAndRestores())
    meta = own.read(tmp_path / "a.png").meta
    assert own.restore(meta, np.zeros((1, 4))).tolist() == [[1, 1, 1, 1]]
    assert own.restore_mask(meta, np.zeros((2, 2), np.uint8)).tolist() == [[1, 1], [1, 1]]


def test_a_set_that_reads_and_does_not_restore_is_told(tmp_path):
    silent = reader(tmp_path, Reads())
    meta = silent.read(tmp_path / "a.png").meta
    for method in ("restore", "restore_mask"):
        with pytest.raises(PluginFault, match=f"no `{method}`"):
            getattr(silent, method)(meta, np.zeros((4, 4), np.uint8))


def test_pictures_need_the_channels_of_a_picture(tmp_path):
    Image.new("RGB", (80, 20)).save(tmp_path / "a.png")
    with pytest.raises(DiagnosticError, match="QS923"):
        reader(tmp_path, SimpleNamespace(classes=("a",)), "channels: 6").read(tmp_path / "a.png")

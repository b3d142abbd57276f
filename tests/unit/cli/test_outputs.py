"""Files that `--output` names: links, permissions, devices, pipes, folders; names of `infer`."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMON = ("--allow-code", "--workdir", "work")


@pytest.fixture(scope="module")
def ran(tmp_path_factory, request):
    """A finished project of this module's own."""
    finished = request.getfixturevalue("finished")
    folder = tmp_path_factory.mktemp("outputs") / "project"
    shutil.copytree(finished.folder, folder)
    return type(finished)(folder)


@pytest.fixture(params=["report", "schema", "sensitivity", "check"])
def writer(request, ran):
    """(project, the arguments of a command that takes an output)."""
    return ran, {
        "report": ("report", "work", "--output"),
        "schema": ("schema", "--output"),
        "sensitivity": ("sensitivity", "toy.yaml", *COMMON, "--images", "2", "--output"),
        "check": ("check", "toy.yaml", *COMMON, "--picture"),
    }[request.param]


def written(project, arguments, target) -> str:
    result = project.call(*arguments, target)
    assert result.returncode == 0, result.stderr
    return nameless(Path(target).read_text())


def nameless(text: str) -> str:
    """A patch of `sensitivity` has a name of its own, after its file."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("name: "))


def test_links_are_followed_and_permissions_kept(writer, tmp_path):
    project, arguments = writer
    expected = written(project, arguments, tmp_path / "plain")
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o666 & ~_umask()
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "chain").symlink_to("link")
    assert written(project, arguments, tmp_path / "chain") == expected
    assert (tmp_path / "chain").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert nameless(real.read_text()) == expected
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    (tmp_path / "dangling").symlink_to("new")
    assert written(project, arguments, tmp_path / "dangling") == expected
    assert nameless((tmp_path / "new").read_text()) == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "chain", "dangling", "link", "new", "plain", "real",
    ]  # fmt: skip


def test_what_cannot_be_replaced_is_refused_and_stays(writer, tmp_path):
    project, arguments = writer
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for name, why in {
        "folder": "it is a folder",
        "to-folder": "it is a folder",
        "loop": "loop",
        "file/below": "not a folder",
    }.items():
        result = project.call(*arguments, tmp_path / name)
        assert result.returncode == 1, name
        assert "QS903" in result.stderr
        assert why in result.stderr
    assert (tmp_path / "loop").is_symlink()
    assert list((tmp_path / "folder").iterdir()) == []
    # following the help
    assert written(project, arguments, tmp_path / "folder/name")


def test_devices_and_pipes_are_written_to(writer, tmp_path):
    project, arguments = writer
    expected = written(project, arguments, tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    result = project.call(*arguments, tmp_path / "pipe")
    reader.join(timeout=30)
    assert (result.returncode, [nameless(text) for text in read]) == (0, [expected])
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    before = os.stat("/dev/null")
    assert project.call(*arguments, "/dev/null").returncode == 0
    assert os.stat("/dev/null").st_ino == before.st_ino
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "to-null").symlink_to("/dev/null")
    assert project.call(*arguments, tmp_path / "to-null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        result = project.call(*arguments, "/dev/full")
        assert result.returncode == 1
        assert "no space is left" in result.stderr


@pytest.mark.parametrize(
    "target",
    [
        "work/summary.json", "work/qat/qat-checkpoint-best.pth.tar", "work/qat/step.json",
        "work/convert/toy.program", "link-to-result",
    ],
)  # fmt: skip
def test_results_of_a_run_are_not_replaced(writer, target):
    project, arguments = writer
    link = project.folder / "link-to-result"
    link.unlink(missing_ok=True)
    link.symlink_to("work/summary.json")
    before = (project.folder / target).read_bytes()
    result = project.call(*arguments, target)
    assert (result.returncode, "QS906" in result.stderr) == (1, True), result.stderr
    assert (project.folder / target).read_bytes() == before
    link.unlink()


@pytest.mark.parametrize("command", ["sensitivity", "check"])
@pytest.mark.parametrize(
    "target", ["toy.yaml", "../{folder}/toy.yaml", "toy_plugin.py", "base.yaml", "soft", "hard"]
)
def test_what_a_command_reads_is_not_replaced(command, target, ran):
    """Told before the model is built; other files are replaced, as the help says."""
    folder = ran.folder
    (folder / "base.yaml").write_text("{}\n")
    (folder / "child.yaml").write_text("extends: [base.yaml, toy.yaml]\n")
    for name in ("soft", "hard"):
        (folder / name).unlink(missing_ok=True)
    (folder / "soft").symlink_to("toy.yaml")
    (folder / "hard").hardlink_to(folder / "toy.yaml")
    option = ("--images", "2", "--output") if command == "sensitivity" else ("--picture",)
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    result = ran.call(command, "child.yaml", *COMMON, *option, target.format(folder=folder.name))
    assert (result.returncode, "QS906" in result.stderr) == (1, True), result.stderr
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("target", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_stdout(ran, target, tmp_path):
    """Behind a pipe, and behind a redirection, whose file keeps what was in it."""
    if target == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
        target = str(tmp_path / "link")
    plain = ran.call("schema").stdout
    result = ran.command("schema", "--output", target)
    assert (result.returncode, result.stdout) == (0, plain)
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as stream:
        subprocess.run(
            ran.command_line("schema", "--output", target),
            cwd=ran.folder, env=ran.environment(), stdout=stream, check=True,
        )  # fmt: skip
    assert log.read_text() == f"before\n{plain}"


def test_a_temporary_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(ran, tmp_path):
    import fcntl

    dead, living = tmp_path / ".qatspec-dead.tmp", tmp_path / ".qatspec-living.tmp"
    mine = tmp_path / "notes.tmp"
    for path in (dead, living, mine):
        path.write_text("")
    with living.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        written(ran, ("schema", "--output"), tmp_path / "schema.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == [living.name, "notes.tmp", "schema.json"]


# -- infer ---------------------------------------------------------------------------------------


def infer(project, source: Path, output: Path):
    model = "work/qat/qat-checkpoint-best.pth.tar"
    return project.call(
        "infer", "toy.yaml", *COMMON, "--model", model, "--input", source, "--output", output
    )


def test_every_input_has_outputs_of_its_own(ran, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = ["a.png", "a.bmp", "A.jpg", "a-mask.png", "a-png.gif", f"{'x' * 240}.png"]
    for name in names:
        Image.new("RGB", (20, 20), "gray").save(pictures / name)
    result = infer(ran, pictures, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    entries = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert sorted(e["input"] for e in entries) == sorted(names)
    assert len({e["output"].casefold() for e in entries}) == len(names)


def test_outputs_beside_their_inputs_overwrite_none(ran, tmp_path):
    for name in ("a.png", "b.png", "predictions.txt"):
        Image.new("RGB", (20, 20), "gray").save(tmp_path / name, "PNG")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for _ in range(2):  # a second run replaces what the first one wrote
        result = infer(ran, tmp_path / "a.png", tmp_path)
        assert result.returncode == 0, result.stderr
        assert {n: (tmp_path / n).read_bytes() for n in before} == before
    entries = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [e["output"] for e in entries] == ["a-png"]


def test_a_foreign_predictions_file_is_refused(ran, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 16, 16), np.float32))
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.json").write_text("[]")
    result = infer(ran, tmp_path / "images.npy", out)
    assert result.returncode == 1
    assert "QS906" in result.stderr
    assert (out / "predictions.json").read_text() == "[]"
    (out / "predictions.json").rename(out / "mine.json")  # following the help
    assert infer(ran, tmp_path / "images.npy", out).returncode == 0


@pytest.mark.parametrize("name", ["x.npz", "link"])
def test_a_foreign_array_file_is_refused(name, ran, tmp_path):
    """Without a spec, integers go into NAME.npz; one of an earlier `infer` is replaced."""
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    arguments = ("infer", "work/convert/toy.program", "--input", tmp_path / "x.npy", "--output")
    mine = tmp_path / "mine.npz"
    np.savez(mine, mine=np.zeros(3))
    if name == "link":
        (tmp_path / "x.npz").symlink_to(mine)
    else:
        mine.rename(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()
    result = ran.call(*arguments, tmp_path)
    assert (result.returncode, "QS906" in result.stderr) == (1, True), result.stderr
    assert (tmp_path / "x.npz").read_bytes() == before
    (tmp_path / "x.npz").rename(tmp_path / "moved")  # following the help
    for _ in range(2):
        assert ran.call(*arguments, tmp_path).returncode == 0
    assert set(np.load(tmp_path / "x.npz")) >= {"images"}


@pytest.mark.parametrize("place", ["file/below", "loop", "/dev/null/x"])
def test_an_output_folder_that_cannot_be(place, ran, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 16, 16), np.float32))
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    result = infer(ran, tmp_path / "images.npy", tmp_path / place)
    assert (result.returncode, "QS903" in result.stderr) == (1, True), result.stderr


ARRAYS = {
    "text": np.full((1, 3, 16, 16), "a"),
    "booleans": np.zeros((1, 3, 16, 16), bool),
    "complex": np.zeros((1, 3, 16, 16), complex),
    "dates": np.zeros((1, 3, 16, 16), "M8[s]"),
    "records": np.zeros((1, 3, 16, 16), [("a", "i4")]),
    "NaN": np.full((1, 3, 16, 16), np.nan, np.float32),
    "infinity": np.full((1, 3, 16, 16), -np.inf),
    "beyond float32": np.full((1, 3, 16, 16), 1e300),
    "no image": np.zeros((0, 3, 16, 16), np.float32),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("with_spec", [True, False])
def test_arrays_that_hold_no_images_are_refused(kind, with_spec, ran, tmp_path):
    np.save(tmp_path / "x.npy", ARRAYS[kind])
    if with_spec:
        result = infer(ran, tmp_path / "x.npy", tmp_path / "out")
    else:
        program = "work/convert/toy.program"
        result = ran.call(
            "infer", program, "--input", tmp_path / "x.npy", "--output", tmp_path / "out"
        )
    assert (result.returncode, "QS923" in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["pipe", "pipe.png", "pipe.npy", "pipe.mp4"])
def test_a_named_pipe_is_no_input(name, ran, tmp_path):
    """The data set's own `read` would wait for it."""
    os.mkfifo(tmp_path / name)
    result = infer(ran, tmp_path / name, tmp_path / "out")
    assert (result.returncode, "QS923" in result.stderr) == (1, True), result.stderr
    assert "named pipe" in result.stderr


def test_a_name_that_is_not_utf_8(ran, tmp_path):
    """predictions.json is UTF-8 all the same, and gives the name back."""
    pictures = tmp_path / os.fsdecode(b"pictures \xff")
    pictures.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (20, 20), "gray").save(pictures / name)
    out = tmp_path / os.fsdecode(b"out \xff")
    result = infer(ran, pictures, out)
    assert result.returncode == 0, result.stderr
    entries = json.loads((out / "predictions.json").read_text("utf-8"))["predictions"]
    assert [e["input"] for e in entries] == [name]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

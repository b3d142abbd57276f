"""The commands that need torch; in processes of their own where they are killed or starved."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

RUN = ("run", "toy.yaml", "--allow-code", "--workdir", "work", "--device", "cpu")

#: Seconds that a loaded machine may take.
PATIENCE = 300

COMMON = ("--allow-code", "--workdir", "work", "--device", "cpu")


def results(folder) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.name not in ("step.json", "summary.json")
        and not p.relative_to(folder).parts[0].startswith((".", "logs"))
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory, request):
    """A project run by the command; treat as read-only."""
    project_class = type(request.getfixturevalue("finished"))
    project = project_class(tmp_path_factory.mktemp("ran") / "project")
    project.result = project.call(*RUN)
    assert project.result.returncode == 0, project.result.stderr
    rng = np.random.default_rng(0)
    pictures = project.folder / "pictures"
    pictures.mkdir()
    for number in range(2):
        pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    np.save(project.folder / "images.npy", rng.normal(size=(2, 3, 16, 16)).astype(np.float32))
    return project


def test_run_closes_with_tables(ran):
    text = ran.result.stdout
    for line in ("float", "calibration", "qat", "convert (integer)", "compile"):
        assert line in text
    assert "compile/toy.bin" in text and "bit-exact" in text
    assert "bayes:" in text and "FPS (modelled)" in text
    assert "Traceback" not in ran.result.stderr


def test_a_second_run_is_cached(ran):
    result = ran.call(*RUN)
    assert result.returncode == 0
    assert result.stdout.count("cached") >= 5
    assert "done in" not in result.stdout


def test_plan_agrees_with_run(ran):
    result = ran.call("plan", "toy.yaml", "--allow-code", "--workdir", "work")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("cached") == 5, result.stdout


@pytest.mark.parametrize("stage", ["float", "qat", "integer", "bin"])
def test_eval(ran, stage):
    result = ran.call("eval", "toy.yaml", "--stage", stage, *COMMON)
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout and "100.00" in result.stdout


def test_eval_of_a_missing_result(project):
    result = project.call("eval", "toy.yaml", *COMMON)
    assert result.returncode == 1
    assert "QS905" in result.stderr and "Traceback" not in result.stderr


def infer(project, name: str, *arguments: str):
    result = project.call("infer", *arguments, "--output", name)
    assert result.returncode == 0, result.stderr
    return project.folder / name


def test_infer_gives_the_same_integers_from_every_file(ran):
    found = {}
    for file in ("convert/toy.program", "convert/toy-converted.onnx", "compile/toy.bin"):
        out = infer(ran, f"out-{file[-3:]}", f"work/{file}", "--input", "images.npy")
        with np.load(out / "images.npz") as arrays:
            found[file] = {name: arrays[name] for name in arrays.files}
    first, *others = found.values()
    assert first["images"].dtype == np.int8 and len(first) == 2
    for other in others:
        for name in first:
            np.testing.assert_array_equal(first[name], other[name])


def test_infer_with_the_spec_decodes(ran):
    outs = []
    for file in ("qat/qat-checkpoint-best.pth.tar", "compile/toy.bin"):
        out = infer(
            ran, f"spec-{file[-3:]}", "toy.yaml", "--model", f"work/{file}", "--input", "pictures",
            *COMMON,
        )  # fmt: skip
        content = json.loads((out / "predictions.json").read_text())
        assert [p["input"] for p in content["predictions"]] == ["0.png", "1.png"]
        outs.append(content["predictions"])
    assert (ran.folder / "spec-bin" / "0.npz").exists()


def test_infer_leaves_out_a_broken_picture_of_a_folder(ran):
    folder = ran.folder / "one-broken"
    folder.mkdir()
    whole = (ran.folder / "pictures" / "0.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    command = ("toy.yaml", "--model", "work/compile/toy.bin", "--input", "one-broken", *COMMON)
    refused = ran.call("infer", *command, "--output", "none-left")
    assert refused.returncode == 1 and "a.png" in refused.stderr

    (folder / "b.png").write_bytes(whole)
    result = ran.call("infer", *command, "--output", "one-left")
    assert result.returncode == 0 and "warning[" in result.stderr and "a.png" in result.stderr
    content = json.loads((ran.folder / "one-left" / "predictions.json").read_text())
    assert [p["input"] for p in content["predictions"]] == ["b.png"]


@pytest.mark.parametrize(
    ("target", "source", "words"),
    [
        ("work/compile/toy.bin", "pictures", "QS923"),
        ("work/compile/toy.bin", "toy.yaml", "name a picture or a video"),
        ("work/compile/none.bin", "images.npy", "QS810"),
        ("toy_plugin.py", "images.npy", "QS924"),
    ],
)
def test_infer_refuses(ran, target, source, words):
    result = ran.call("infer", target, "--input", source, "--output", "refused")
    assert result.returncode == 1
    assert words in result.stderr and "Traceback" not in result.stderr


def test_convert_for_another_march(ran):
    result = ran.call(
        "convert", "toy.yaml", "--qat_model_path", "work/qat/qat-checkpoint-best.pth.tar",
        "--output_dir", "converted", "--march", "bernoulli2", "--allow-code", "--workdir", "work",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "QS920" in result.stderr and "bayes" in result.stderr
    assert sorted(p.name for p in (ran.folder / "converted").iterdir()) == [
        "toy-converted.onnx", "toy-outputs.h", "toy-outputs.json", "toy-qat.onnx", "toy.bin",
        "toy.perf.html", "toy.perf.json", "toy.program",
    ]  # fmt: skip
    perf = json.loads((ran.folder / "converted/toy.perf.json").read_text())
    assert perf["summary"]["BPU march"] == "bernoulli2"


def test_convert_for_a_march_that_rounds_before_it_adds(project):
    """The sum stays where it was trained: the checkpoint has no scale in front of it."""
    plugin = project.folder / "toy_plugin.py"
    stem = "self.stem[2](self.stem[1](self.stem[0](images)))"
    text = plugin.read_text()
    for old, new in (
        ("width, width, 3, stride=2", "width, width, 3, stride=1"),
        ("nn.Conv2d(width, 4, 4)", "nn.Conv2d(width, 4, 8)"),
        ("self.stem(images)", f"self.stem[4](self.stem[3](x := {stem})) + x"),
    ):
        assert old in text
        text = text.replace(old, new)
    plugin.write_text(text)
    project.run()
    result = project.call(
        "convert", "toy.yaml", "--qat-model-path", "work/qat/qat-checkpoint-best.pth.tar",
        "--output-dir", "converted", "--march", "onnxruntime", "--allow-code", "--workdir", "work",
        "--set", "stages.compile.opt=exact",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "QS920" in result.stderr
    assert (project.folder / "converted/toy-converted.onnx").exists()


def test_convert_gives_the_files_of_run(ran):
    result = ran.call(
        "convert", "toy.yaml", "--qat-model-path", "work/qat/qat-checkpoint-best.pth.tar",
        "--output-dir", "same", "--allow-code", "--workdir", "work",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "QS920" not in result.stderr
    for path in (ran.folder / "same").iterdir():
        folder = "convert" if (ran.workdir / "convert" / path.name).exists() else "compile"
        assert path.read_bytes() == (ran.workdir / folder / path.name).read_bytes(), path.name


def test_an_unknown_march(ran):
    result = ran.call(
        "convert", "toy.yaml", "--qat-model-path", "x", "--output-dir", "y", "--march", "j5",
        "--allow-code",
    )  # fmt: skip
    assert result.returncode == 1
    assert "bayes" in result.stderr


def test_report(ran):
    result = ran.call("report", "work")
    assert result.returncode == 0, result.stderr
    page = (ran.workdir / "report.html").read_text()
    assert "convert/toy.program" in page and "accuracy" in page and "stem_0" in page
    (ran.workdir / "report.html").unlink()


def test_report_of_nothing(project):
    result = project.call("report", ".")
    assert result.returncode == 1
    assert "QS925" in result.stderr


def start(project) -> subprocess.Popen:
    """A run that has its first checkpoint."""
    project.edit("count: 32", "count: 800")
    process = subprocess.Popen(
        project.command_line(*RUN), cwd=project.folder, env=project.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background jobs ignore SIGINT, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    checkpoint = project.workdir / "float/float-checkpoint-last.pth.tar"
    deadline = time.monotonic() + PATIENCE
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(project):
    process = start(project)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    result = project.call(*RUN, "--step", "float")
    assert result.returncode == 0, result.stderr
    assert "resumed from step" in result.stdout


@pytest.mark.slow
def test_kill_9_costs_nothing_but_time(project, tmp_path):
    process = start(project)
    process.kill()
    process.communicate()
    assert project.call(*RUN, "--step", "float").returncode == 0
    unbroken = type(project)(tmp_path / "unbroken")
    unbroken.edit("count: 32", "count: 800")
    assert unbroken.call(*RUN, "--step", "float").returncode == 0
    assert results(project.workdir) == results(unbroken.workdir)


@pytest.mark.slow
def test_a_full_disk(project):
    """A file size limit stands in for it: the kernel refuses the write in the same way."""
    assert project.call(*RUN, "--step", "float").returncode == 0
    before = results(project.workdir)
    project.edit("epochs: 3", "epochs: 4")
    limit = (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    refused = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}
    rehearsed = project.command(*RUN, **refused)  # its page is written to a scratch folder
    assert rehearsed.returncode == 1
    assert "QS947" in rehearsed.stderr and "toy.perf.html" in rehearsed.stderr
    result = project.command(*RUN, "--step", "float", **refused)
    assert result.returncode == 1
    assert "QS903" in result.stderr and "Traceback" not in result.stderr
    assert not list(project.workdir.rglob("*.tmp"))
    assert project.call(*RUN, "--step", "float").returncode == 0
    project.edit("epochs: 4", "epochs: 3")
    back = project.call(*RUN, "--step", "float")
    assert "float cached" in back.stdout
    assert results(project.workdir) == before


def test_a_damaged_checkpoint(copy):
    copy.workdir.rename(copy.folder / "old")
    path = copy.folder / "old/qat/qat-checkpoint-best.pth.tar"
    path.write_bytes(path.read_bytes()[:-100])
    result = copy.call(
        "convert", "toy.yaml", "--qat-model-path", str(path), "--output-dir", "out", "--allow-code"
    )
    assert result.returncode == 1
    assert "QS901" in result.stderr and str(path) in result.stderr
    assert not (copy.folder / "out").exists()

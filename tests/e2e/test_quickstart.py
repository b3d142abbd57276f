"""The quickstart in its fast form, as a person runs it: the whole path on real digits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
FAST = ("--set", "vars.fast=1", "--workdir", "work")

pytestmark = pytest.mark.slow
pytest.importorskip("sklearn")
pytest.importorskip("onnxruntime")


def qatspec(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess:
    code = "from qatspec.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, command, *map(str, arguments)],
        cwd=folder, text=True, capture_output=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for stage in ("float", "calibration", "qat", "convert", "compile")
        for p in sorted((folder / stage).iterdir())
        if p.name != "step.json"
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    result = qatspec(folder, "run", SPEC, *FAST)
    assert result.returncode == 0, result.stderr
    return folder


def test_all_five_stages(ran):
    summary = json.loads((ran / "work/summary.json").read_text())
    stages = ["float", "calibration", "qat", "convert", "compile"]
    assert [(s["stage"], s["status"]) for s in summary["steps"]] == [(s, "run") for s in stages]
    assert set(summary["metrics"]) == {"float", "calibration", "qat", "integer"}
    assert all({"AP", "AP50"} <= set(m) for m in summary["metrics"].values())
    exact = {a["kind"]: a["bit_exact"] for a in summary["artifacts"]}
    assert exact["bin"] is exact["converted_onnx"] is exact["program"] is True
    (figures,) = summary["performance"]
    assert figures["march"] == "bayes" and figures["latency_ms"] > 0
    for artifact in summary["artifacts"]:
        data = (ran / "work" / artifact["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == artifact["sha256"]


def test_a_second_run_is_cached(ran):
    result = qatspec(ran, "run", SPEC, *FAST)
    assert result.returncode == 0, result.stderr
    summary = json.loads((ran / "work/summary.json").read_text())
    assert {s["status"] for s in summary["steps"]} == {"cached"}


def test_a_run_elsewhere_gives_the_same_bytes(ran, tmp_path):
    result = qatspec(tmp_path, "run", SPEC, *FAST)
    assert result.returncode == 0, result.stderr
    assert digests(tmp_path / "work") == digests(ran / "work")


def test_boxes_of_the_bin_are_those_of_the_program(ran):
    picture = ran / "digit.png"
    pixels = np.random.default_rng(0).integers(0, 255, (100, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    found = []
    for file in ("convert/quickstart.program", "compile/quickstart.bin"):
        out = f"out-{Path(file).suffix[1:]}"
        result = qatspec(
            ran, "infer", SPEC, *FAST, "--set", "model.params.decoder.score_threshold=0",
            "--model", f"work/{file}", "--input", picture, "--output", out,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        content = json.loads((ran / out / "predictions.json").read_text())
        with np.load(ran / out / "digit.npz") as arrays:
            found.append((content["predictions"], {k: arrays[k] for k in arrays.files}))
        with Image.open(ran / out / "digit.png") as drawn:
            assert drawn.size == (140, 100)
    (boxes, ints), (other_boxes, other_ints) = found
    assert boxes == other_boxes
    assert boxes[0]["boxes"], "no box was decoded: nothing was compared"
    assert set(ints) == set(other_ints)
    for name in ints:
        np.testing.assert_array_equal(ints[name], other_ints[name])


def test_boxes_of_the_bin_are_those_that_eval_judges(ran, tmp_path):
    """infer decodes as eval does: the same ReLU, x stride and sigmoid behind the integers."""
    from qatspec_vision.data.coco import CocoDetection
    from qatspec_vision.data.detection import loader_options
    from qatspec_vision.data.layout import Layout
    from qatspec_vision.params import COCO

    from qatspec.schema import with_defaults

    augment = {"augment": with_defaults(COCO["properties"]["augment"], {})}

    loose = (*FAST, "--set", "model.params.decoder.score_threshold=0")

    def judged(*arguments: str) -> dict[str, float]:
        result = qatspec(ran, "eval", SPEC, *loose, "--stage", "bin", *arguments)
        assert result.returncode == 0, result.stderr
        lines = [line.split() for line in result.stdout.splitlines() if line.startswith("  ")]
        return {name: float(value) for name, value in lines}

    (folder,) = (f for f in (ran / "work/data").iterdir() if len(list(f.glob("*/*.bmp"))) == 16)
    result = qatspec(
        ran, "infer", SPEC, *loose, "--model", "work/compile/quickstart.bin",
        "--input", folder / "pictures", "--output", tmp_path / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    entries = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    fed = loader_options({"size": 128, "format": "rgb", "mean": 128, "std": 128, **augment})
    val = CocoDetection(Layout(folder / "annotations.json", folder / "pictures"), **fed)
    assert len(entries) == len(val)
    pairs = [
        (
            val.sample(index, np.random.default_rng(0)).meta,
            {name: np.array(entry[name]) for name in ("boxes", "scores", "labels")},
        )
        for index, entry in enumerate(entries)
    ]

    def metrics(count: int) -> dict[str, float]:
        return {name: round(value, 2) for name, value in val.evaluate(pairs[:count]).items()}

    assert judged() == metrics(16)
    assert judged("--limit", "5") == metrics(5)
    assert metrics(16)["AR"] > 0, "nothing was found: nothing was compared"
    assert metrics(16) != metrics(5)


def test_a_bin_that_is_fed_a_cameras_frames(ran, tmp_path):
    """The community tutorial's `rt_input_type: yuv444`, of a model that is trained on rgb."""
    fed = (
        "--set",
        "stages.compile.rt_input_type=yuv444",
        "--set",
        "stages.compile.rt_input_layout=NHWC",
    )
    shutil.copytree(ran / "work", tmp_path / "work")
    result = qatspec(tmp_path, "run", SPEC, *FAST, *fed)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "work/summary.json").read_text())
    assert [s["stage"] for s in summary["steps"] if s["status"] == "run"] == ["compile"]
    (binary,) = (a for a in summary["artifacts"] if a["kind"] == "bin")
    assert binary["bit_exact"] is True

    frames = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    model = tmp_path / "work/compile/quickstart.bin"
    result = qatspec(tmp_path, "infer", model, "--input", "frames.npy", "--output", "out")
    assert result.returncode == 0, result.stderr
    left = np.load(tmp_path / "out/frames.npz")
    assert left["images"].dtype == np.uint8 and np.array_equal(left["images"], frames)

    picture = tmp_path / "digit.png"
    Image.fromarray(frames[0, :100]).save(picture)
    given = ("--input", picture, "--output", "drawn", "--model", model)
    result = qatspec(tmp_path, "infer", SPEC, *FAST, *fed, *given)
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "drawn/digit.npz")["images"].dtype == np.uint8
    assert qatspec(tmp_path, "eval", SPEC, *FAST, *fed, "--stage", "bin").returncode == 0

"""Files and batches whose numbers are not finite end a command with their name, and help works."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from qatspec.train.checkpoint import load


def _save_float(project, finished, change) -> None:
    """The finished project's float weights as a file of torch.save beside the spec."""
    best = load(finished.workdir / "float" / "float-checkpoint-best.pth.tar")
    torch.save({"state_dict": change(dict(best.weights))}, project.folder / "given.pth")


def _spoilt(key: str, value: float):
    def change(state):
        state[key] = state[key].clone()
        state[key].view(-1)[0] = value
        return state

    return change


def _use(project, solver: str) -> None:
    project.edit("  float:\n", f"  float:\n    solver: {{weights: given.pth{solver}}}\n")


@pytest.mark.parametrize(
    ("key", "value"),
    [("stem.0.weight", math.nan), ("stem.1.running_var", -1.0), ("head.bias", math.inf)],
)
def test_weights_of_the_spec(project, finished, key: str, value: float) -> None:
    _save_float(project, finished, _spoilt(key, value))
    _use(project, "")
    done = project.call("run", "toy.yaml", "--allow-code", "--step", "float")
    assert done.returncode == 1
    assert "QS955" in done.stderr and key in done.stderr and "given.pth" in done.stderr


def test_keys_of_another_project(project, finished) -> None:
    _save_float(project, finished, lambda state: {f"a.{k}.b": v for k, v in state.items()})
    _use(project, ", allow_miss: true, ignore_extra: true")
    done = project.call("run", "toy.yaml", "--allow-code", "--step", "float", "--smoke")
    assert done.returncode == 1 and "QS956" in done.stderr and "solver.key_map" in done.stderr
    pairs = r"key_map: [['^a\.', ''], ['\.b$', '']]"
    project.edit(", allow_miss: true, ignore_extra: true", f", {pairs}")
    done = project.call("run", "toy.yaml", "--allow-code", "--step", "float", "--smoke")
    assert done.returncode == 0, done.stderr


def test_a_prefix_of_a_wrapper_is_told(project, finished) -> None:
    _save_float(project, finished, lambda state: {f"module.{k}": v for k, v in state.items()})
    _use(project, "")
    done = project.call("run", "toy.yaml", "--allow-code", "--step", "float", "--smoke")
    assert done.returncode == 0, done.stderr
    told = "weights of `given.pth`: entry `state_dict`; `module.` was removed from"
    assert told in done.stdout + done.stderr
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 0 and told in done.stdout, done.stdout


def test_a_checkpoint_that_is_converted(finished, tmp_path: Path) -> None:
    path = finished.workdir / "qat" / "qat-checkpoint-best.pth.tar"
    content = torch.load(path, weights_only=True)
    assert content["state_dict"].keys() == load(path).state_dict.keys()
    weights = content["state_dict"] if content["ema"] is None else content["ema"]["state_dict"]
    weights["stem.0.weight"].view(-1)[0] = math.nan
    spoilt = tmp_path / "spoilt.pth.tar"
    torch.save(content, spoilt)
    done = finished.call(
        "convert", "toy.yaml", "--allow-code", "--qat-model-path", str(spoilt),
        "--output-dir", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "QS955" in done.stderr and "stem.0.weight" in done.stderr
    assert "spoilt.pth.tar" in done.stderr
    assert not list(tmp_path.glob("out/*.bin"))


def test_a_batch_of_the_calibration(project) -> None:
    plugin = project.folder / "toy_plugin.py"
    old = '        return Sample(image, {"label"'
    text = plugin.read_text()
    assert old in text
    overflow = "        image[0, 0, 0] += np.inf if (self.count, index) == (8, 5) else 0.0\n"
    plugin.write_text(text.replace(old, overflow + old))
    project.edit(
        "  val: {type", "  calibration: {type: toy_corners, params: {count: 8}, batch_size: 2}\n"
        "  val: {type",
    )  # fmt: skip
    command = ("run", "toy.yaml", "--allow-code", "--step", "calibration", "--with-deps")
    done = project.call(*command, "--workdir", "work")
    assert done.returncode == 1
    assert re.search(r"QS610.*was not finite on batch \d", done.stderr)
    assert not (project.workdir / "calibration" / "calibration-checkpoint-best.pth.tar").exists()
    plugin.write_text(text)
    done = project.call(*command, "--workdir", "work")
    assert done.returncode == 0, done.stderr


def test_a_run_tells_of_an_activation_that_calibration_saw_as_zeros(project):
    plugin = project.folder / "toy_plugin.py"
    dead = "self.head(self.stem(images) * 0)"
    plugin.write_text(plugin.read_text().replace("self.head(self.stem(images))", dead))
    project.edit("epochs: 3", "epochs: 1")
    project.run(step="calibration", with_deps=True)
    said = [e.data["diagnostic"] for e in project.events if "diagnostic" in e.data]
    (warning,) = (d for d in said if d.code == "QS614")
    assert "the result of `mul`" in warning.message
    assert warning.span is not None and warning.span.file.endswith("toy_plugin.py")

"""Mutations of a spec and of its inputs, each run afresh: equal tensors, optimizer and generator
states if and only if the digests are equal. `tests/mutant` is the net."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qatspec.engine import run
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import load
from qatspec.train.checkpoint import Checkpoint, load as load_checkpoint

STAGES = ("float", "calibration", "qat")
MUTANT = Path(__file__).parent / "mutant"
MUTANT_FILE = "mutant.py"
_WIDE = {"observer": "percentile", "percentile": 90.0, "bins": 64, "fake_quant": "fixed"}
_ROLE = {"type": "imagefolder_classification", "broken": "skip", "workers": 0, "batch_size": 4}
SPEC: dict[str, Any] = {
    "qatspec": 1,
    "name": "mutant",
    "march": "bayes",
    "seed": 3,
    "plugins": ["./mutant.py"],
    "vars": {"unused": 1},
    "smoke": {"seed": 9},
    "model": {
        "type": "mutant_net",
        "params": {"width": 4, "dropout": 0.2, "temperature": 1.0},
        "input": {"size": [8, 8], "channels": 3, "format": "rgb", "mean": 128, "std": 128,
                  "scale": 0.0078125},
    },
    "data": {
        role: {**_ROLE, "params": {"root": "data", "split": split, "size": 8, "crop": 1.0}}
        for role, split in (("train", "train"), ("calibration", "train"), ("qat", "train"),
                            ("val", "val"))
    },
    "quantize": {"prepare": "horizon", "quantize_output": False},
    "stages": {
        "float": {
            "trainer": {
                "epochs": 2, "ema": 0.5, "grad_clip": 0.5, "validate_epochs": 1,
                "checkpoint_steps": 1, "batch_norm": "running",
                "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True,
                              "weight_decay": 0.01},
                "scheduler": {"type": "cosine", "warmup_steps": 1, "min_lr": 0.001},
            },
            "solver": {"allow_miss": False, "ignore_extra": False},
        },
        "calibration": {
            "trainer": {"steps": 2},
            "qconfig": {"": "horizon_calibration", "object_type": {"torch.nn.Conv2d": {
                "activation": _WIDE,
                "weight": {"observer": "moving_average", "averaging_constant": 0.5, "ch_axis": 0,
                           "dtype": "qint8"}}}},
            "solver": {"pre_step": None, "pre_step_checkpoint": "best"},
        },
        "qat": {
            "trainer": {
                "steps": 5,
                "optimizer": {"type": "adamw", "lr": 0.01, "betas": [0.5, 0.6], "eps": 0.001,
                              "weight_decay": 0.1},
                "scheduler": {"type": "step", "epochs": [1], "factor": 0.5},
            },
            "qconfig": "horizon_calibrated",
            "batch_size_per_gpu": 2,
            "solver": {"pre_step": "calibration", "pre_step_checkpoint": "last"},
        },
        "convert": {"opset": 17},
        "compile": {"opt": "O3"},
    },
}  # fmt: skip

Edit = Callable[[Path, dict[str, Any]], None]


@dataclass(frozen=True)
class Made:
    """What a stage of a run left: the identity of its tensors as the record has it, and the
    contents of its checkpoints."""

    identity: str
    evaluation: str
    contents: str
    metrics: str


def write_project(folder: Path) -> dict[str, Any]:
    """The plugin, its files, and pictures of two classes; returns the spec, not yet written."""
    shutil.copytree(MUTANT, folder, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 6)):
        for index in range(count):
            path = folder / "data" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 128, (8, 8, 3), np.uint8)
            pixels[: 4 if index % 2 else 8, :4] += 100
            Image.fromarray(pixels).save(path)
    return copy.deepcopy(SPEC)


def make(folder: Path, edit: Edit | None = None) -> dict[str, Made]:
    """Run the edited project afresh up to qat."""
    spec = write_project(folder)
    if edit is not None:
        edit(folder, spec)
    (folder / "spec.json").write_text(json.dumps(spec))
    _forget_plugins()
    try:
        plan = resolve(load(folder / "spec.json", allow_code=True))
        run(plan, folder / "work", step="qat", with_deps=True, device="cpu")
    finally:
        _forget_plugins()
    made = (stage for stage in STAGES if (folder / "work" / stage).exists())
    return {stage: _made(folder / "work" / stage, stage) for stage in made}


def _forget_plugins() -> None:
    """Every project brings the plugin and its helper from a folder of its own."""
    registry.cache_clear()
    sys.path[:] = [path for path in sys.path if not (Path(path) / MUTANT_FILE).exists()]
    for name in [n for n in sys.modules if n.partition(".")[0] == "sub"]:
        del sys.modules[name]


def _made(folder: Path, stage: str) -> Made:
    record = json.loads((folder / "step.json").read_text())
    files = sorted(p for p in folder.glob("*.pth.tar") if "-best" not in p.name)
    contents = {path.name: _digest(_trained(load_checkpoint(path))) for path in files}
    identity = [record["digest"], record["opened"]]
    best = _digest(dict(load_checkpoint(folder / f"{stage}-checkpoint-best.pth.tar").weights))
    return Made(
        identity=json.dumps(identity, sort_keys=True),
        evaluation=record["evaluation"],
        contents=json.dumps(contents),
        metrics=json.dumps([record["metrics"], best]),
    )


def _trained(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything of a checkpoint but for its provenance."""
    beside = ("metrics", "best", "best_metrics", "march", "digests")
    return {name: getattr(checkpoint, name) for name in Checkpoint.__slots__ if name not in beside}


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"{item.dtype}{tuple(item.shape)}".encode())
            digest.update(item.detach().contiguous().numpy().tobytes())
        elif isinstance(item, Mapping):
            for key in sorted(item, key=str):
                digest.update(f"{key}:".encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            for part in item:
                add(part)
        else:
            digest.update(f"{item!r};".encode())

    add(value)
    return digest.hexdigest()


def both(*edits: Edit) -> Edit:
    """Several edits, where one alone is no good spec."""

    def edit(folder: Path, spec: dict[str, Any]) -> None:
        for one in edits:
            one(folder, spec)

    return edit


def sets(pointer: str, value: Any, *, keep: bool = False) -> Edit:
    """Set one value of the spec; None: delete the key, unless null is to be kept."""

    def edit(folder: Path, spec: dict[str, Any]) -> None:
        *parents, last = pointer.split("/")
        node = spec
        for name in parents:
            node = node.setdefault(name, {})
        if value is None and not keep:
            del node[last]
        else:
            node[last] = value

    return edit


def writes(name: str, content: str | bytes) -> Edit:
    """Write a file of the project."""

    def edit(folder: Path, spec: dict[str, Any]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return edit


def inverts(name: str) -> Edit:
    """Invert a picture, whose file then has another content of about the same size."""

    def edit(folder: Path, spec: dict[str, Any]) -> None:
        with Image.open(folder / name) as picture:
            inverted = Image.fromarray(255 - np.asarray(picture))
        inverted.save(folder / name)

    return edit


def moves_data(folder: Path, spec: dict[str, Any]) -> None:
    (folder / "data").rename(folder / "moved")
    for role in spec["data"].values():
        role["params"]["root"] = "./moved"


def begins_with(gain: float, **solver: Any) -> Edit:
    """Begin with a file of weights."""

    def edit(folder: Path, spec: dict[str, Any]) -> None:
        weights = {"head.weight": torch.full((2, 4, 4, 4), gain)}
        torch.save(weights, folder / "weights.pth")
        chosen = {"weights": "weights.pth", "allow_miss": True, **solver}
        spec["stages"]["float"]["solver"].update(chosen)

    return edit


_FLOAT, _CALIBRATION, _QAT = (f"stages/{stage}" for stage in STAGES)
_SGD, _COSINE = f"{_FLOAT}/trainer/optimizer", f"{_FLOAT}/trainer/scheduler"
_ADAMW, _STEP = f"{_QAT}/trainer/optimizer", f"{_QAT}/trainer/scheduler"
_CONV = f"{_CALIBRATION}/qconfig/object_type/torch.nn.Conv2d"

#: name -> edit. Together they touch every key of the language that is not a way to write another,
#: and every input.
MUTATIONS: dict[str, Edit] = {
    # what stands beside the tensors
    "name": sets("name", "other"),
    "another march, the same arithmetic and no special case here": sets("march", "bernoulli2"),
    "a march that adds after rounding": both(
        sets("march", "onnxruntime"), sets("stages/compile", {})
    ),
    "vars": sets("vars/unused", 2),
    "smoke": sets("smoke/seed", 8),
    "opset": sets("stages/convert/opset", 18),
    "compile": sets("stages/compile/opt", "O0"),
    "input format": sets("model/input/format", "yuv444"),
    "input mean": sets("model/input/mean", 100),
    "input std": sets("model/input/std", 50),
    "input mean of each channel": sets("model/input/mean", [100, 110, 120]),
    "blue first": sets("model/input/format", "bgr"),
    "input resize": sets("model/input/resize", "stretch"),
    "input scale": sets("model/input/scale", 0.03),
    "no input scale": sets("model/input/scale", None),
    "an input that is not quantized": sets("quantize/quantize_input", False),
    "checkpoint_steps": sets(f"{_FLOAT}/trainer/checkpoint_steps", 2),
    # evaluation
    "val batch size": sets("data/val/batch_size", 2),
    "val limit": sets("data/val/params/limit", 3),
    "val split": sets("data/val/params/split", "train"),
    "val crop": sets("data/val/params/crop", 0.5),
    "val workers": sets("data/val/workers", 1),
    "a picture of val": inverts("data/val/a/0.png"),
    "a decoder's param": sets("model/params/temperature", 2.0),
    # inputs
    "data elsewhere": moves_data,
    "a picture of train": inverts("data/train/a/0.png"),
    "a file beside the pictures": writes("data/train/a/notes.txt", "x"),
    "a plugin's comment": writes("plot.py", "x = 1"),
    "a file that the plugin opens": writes("gain.json", "2.5"),
    "a module that it imports": writes("sub/helper.py", "def gain():\n    return 2.0\n"),
    "weights": begins_with(0.1),
    # the model and its data
    "seed": sets("seed", 4),
    "width": sets("model/params/width", 5),
    "dropout": sets("model/params/dropout", 0.5),
    "train batch size": sets("data/train/batch_size", 2),
    "the same batch size in the stage": sets(f"{_FLOAT}/batch_size_per_gpu", 4),
    "another batch size in the stage": sets(f"{_FLOAT}/batch_size_per_gpu", 2),
    "a batch size that the stage overrides": sets("data/qat/batch_size", 1),
    "train workers": sets("data/train/workers", 2),
    "train limit": sets("data/train/params/limit", 5),
    "train mean": sets("data/train/params/mean", 100.0),
    "train flip": sets("data/train/params/augment", {"flip": 0.5}),
    "calibration data": sets("data/calibration/params/split", "val"),
    "calibration batch size": sets("data/calibration/batch_size", 2),
    "qat data": sets("data/qat/params/split", "val"),
    # float
    "epochs": sets(f"{_FLOAT}/trainer/epochs", 3),
    "ema": sets(f"{_FLOAT}/trainer/ema", 0.1),
    "no ema": sets(f"{_FLOAT}/trainer/ema", None),
    "grad_clip": sets(f"{_FLOAT}/trainer/grad_clip", 0.01),
    "validate_epochs": sets(f"{_FLOAT}/trainer/validate_epochs", 2),
    "synchronized batch norm over one process": sets(
        f"{_FLOAT}/trainer/batch_norm", "synchronized"
    ),
    "frozen batch norm": sets(f"{_FLOAT}/trainer/batch_norm", {"freeze_from_epoch": 1}),
    "sgd lr": sets(f"{_SGD}/lr", 0.02),
    "momentum": sets(f"{_SGD}/momentum", 0.5),
    "nesterov": sets(f"{_SGD}/nesterov", False),
    "sgd weight_decay": sets(f"{_SGD}/weight_decay", 0.1),
    "schedule": sets(_COSINE, {"type": "constant"}),
    "warmup_steps": sets(f"{_COSINE}/warmup_steps", 2),
    "min_lr": sets(f"{_COSINE}/min_lr", 0.01),
    "amp": sets(f"{_FLOAT}/trainer/amp", "bf16"),
    "amp of qat": sets(f"{_QAT}/trainer/amp", "bf16"),
    "channels_last": sets(f"{_FLOAT}/trainer/channels_last", True),
    "early_stop": sets(f"{_FLOAT}/trainer/early_stop", {"patience": 1, "min_delta": 50}),
    "plateau": sets(_COSINE, {"type": "plateau", "patience": 0}),
    # calibration
    "calibration steps": sets(f"{_CALIBRATION}/trainer/steps", 1),
    "calibration from last": sets(f"{_CALIBRATION}/solver/pre_step_checkpoint", "last"),
    "the default predecessor written": sets(f"{_CALIBRATION}/solver/pre_step", "float"),
    "observer": sets(f"{_CONV}/activation/observer", "min_max"),
    "percentile": sets(f"{_CONV}/activation/percentile", 60.0),
    "bins": sets(f"{_CONV}/activation/bins", 16),
    "weight dtype": sets(f"{_CONV}/weight/dtype", "qint4"),
    "ch_axis": both(
        sets(f"{_CONV}/weight/ch_axis", None, keep=True),
        sets(f"{_QAT}/qconfig", {"": {"weight": {"ch_axis": None}}}),
    ),
    "calibration's own quantize": sets(f"{_CALIBRATION}/quantize", {"quantize_output": True}),
    # qat
    "qat steps": sets(f"{_QAT}/trainer/steps", 4),
    "qat from best, which is last": sets(f"{_QAT}/solver/pre_step_checkpoint", "best"),
    "qat from float": both(
        sets(f"{_QAT}/solver/pre_step", "float"), sets(f"{_QAT}/qconfig", "horizon_qat")
    ),
    "qat preset": sets(f"{_QAT}/qconfig", "horizon_qat"),
    "qat batch size": sets(f"{_QAT}/batch_size_per_gpu", 3),
    "betas": sets(f"{_ADAMW}/betas", [0.9, 0.6]),
    "eps": sets(f"{_ADAMW}/eps", 0.1),
    "adamw weight_decay": sets(f"{_ADAMW}/weight_decay", 0.9),
    "factor": sets(f"{_STEP}/factor", 0.1),
    "step epochs": sets(f"{_STEP}/epochs", [2]),
    "averaging_constant": sets(
        f"{_QAT}/qconfig",
        {"": {"activation": {"averaging_constant": 0.3}, "weight": {"averaging_constant": 0.3}}},
    ),
    "learned scales": sets(
        f"{_QAT}/qconfig",
        {"": {"activation": {"fake_quant": "lsq"}, "weight": {"fake_quant": "lsq"}}},
    ),
    # quantize
    "prepare": sets("quantize/prepare", None),
    "quantize_output": sets("quantize/quantize_output", True),
    "modules": sets("quantize", {"modules": {"stem": {}, "body": {}}}),
}
_GRAPH = (
    "the digest holds what may change a prepared graph; this net has none of the ops it is about"
)
#: (edit, stage) that a digest takes for a change although the tensors are the same here, and why.
CONSERVATIVE: dict[tuple[str, str], str] = {
    **{
        (name, stage): _GRAPH
        for name in (
            "another march, the same arithmetic and no special case here",
            "a march that adds after rounding",
            "prepare",
        )
        for stage in ("calibration", "qat")
    },
    **{
        ("input resize", stage): "its pictures have the size of the input, and are fitted alike"
        for stage in ("float", "calibration", "qat")
    },
    ("weight dtype", "qat"): "it starts from other weight scales, which it then measures anew",
}

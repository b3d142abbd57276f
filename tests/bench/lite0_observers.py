"""EfficientNet-Lite0 with its published weights, after calibration alone: top-1 of the integer
Program by observer, next to torch.ao's FX mode and onnxruntime's static quantization on the same
pictures.

    python tests/bench/lite0_observers.py --data ../shared/data/imagenet_sample [--weights FILE]

64 pictures calibrate, the other 336 judge; they come from ImageNet's training set, so only the
differences mean something. Rows that are done are kept in the work directory, and a second run
goes on behind them. Exit code 1 where none of our observers is within 1.5 points of float.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lite0
import numpy as np
import torch
from qatspec_vision.data.imagefolder import open_imagefolder
from qatspec_vision.params import IMAGEFOLDER
from torch import Tensor, nn

from qatspec.api import (
    OnnxRunner,
    export_qat_onnx,
    load,
    lower,
    prepare,
    registry,
    set_stage,
    to_onnx,
)
from qatspec.schema import with_defaults
from qatspec.train.key_maps import mapped
from qatspec.train.weights import read_weights

SPEC = Path(__file__).parent / "specs" / "lite0.yaml"
BATCH = 16
#: Points of top-1 that calibration alone may cost.
ALLOWED = 1.5

Produce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pictures:
    images: Tensor
    labels: Tensor

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)


def network(settings: dict[str, str]) -> nn.Module:
    """The model of specs/lite0.yaml with its weights, in eval mode."""
    spec = load(SPEC, [f"{key}={value}" for key, value in settings.items()])
    model = registry().model(spec.model.type).build(spec.model.params)
    weights = Path(settings["vars.weights"])
    state = read_weights(weights).tensors
    model.load_state_dict(mapped(state, "by_order", model, source=weights, at=""))
    return model.eval()


def read(data: Path, index: Path) -> Pictures:
    given = {"root": str(data), "index": str(index), "size": 224, "mean": 127}
    opened = open_imagefolder(with_defaults(IMAGEFOLDER, given), index.parent, data)
    samples = [opened.sample(i, np.random.default_rng(0)) for i in range(len(opened))]
    images = torch.from_numpy(np.stack([s.image for s in samples]))
    return Pictures(images, torch.tensor([int(s.target["label"]) for s in samples]))


def calibrate(model: Callable[[Tensor], Any], pictures: Pictures) -> None:
    for images, _ in pictures.batches():
        model(images)


def ours(observer: str, model: nn.Module, pictures: Pictures, folder: Path) -> Produce:
    """The integer Program, as its converted ONNX in onnxruntime; both give the same integers."""
    activation = {"dtype": "qint8", "observer": observer, "fake_quant": "fixed"}
    weight = {"dtype": "qint8", "observer": "min_max", "fake_quant": "fixed", "ch_axis": 0}
    prepared = prepare(
        model,
        (pictures.images[:1],),
        qconfig={"": {"activation": activation, "weight": weight}},
        prepare="horizon",
        march="bayes",
        quantize_output=False,
    )
    set_stage(prepared, "calibration")
    calibrate(prepared.model, pictures)
    set_stage(prepared, "eval")
    program = lower(prepared, (pictures.images[:1],))
    to_onnx(program, folder / f"{observer}.onnx")
    runner = OnnxRunner.load(folder / f"{observer}.onnx", threads=torch.get_num_threads())

    def produce(images: Tensor) -> Tensor:
        (logits,) = program.dequantize(runner.run(*program.quantize(images.numpy())))
        return torch.from_numpy(logits)

    images = pictures.images[:BATCH]
    ints = program.quantize(images.numpy())
    for a, b in zip(program.run(*ints), runner.run(*ints), strict=True):
        np.testing.assert_array_equal(a, b)
    return produce


def torch_fx(engine: str, model: nn.Module, pictures: Pictures, folder: Path) -> Produce:
    """torch.ao.quantization's FX mode with its default qconfig of an engine."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    prepared = prepare_fx(model, get_default_qconfig_mapping(engine), (pictures.images[:1],))
    calibrate(prepared, pictures)
    converted: Produce = convert_fx(prepared)
    return converted


def onnxruntime_static(method: str, model: nn.Module, pictures: Pictures, folder: Path) -> Produce:
    """onnxruntime.quantization.quantize_static, Q/DQ, int8, weights per channel."""
    import onnxruntime
    from onnxruntime import quantization as ort

    exported, quantized = folder / "float.onnx", folder / f"ort-{method}.onnx"
    plain = prepare(model, (pictures.images[:1],), qconfig={"": None})
    export_qat_onnx(plain, exported, (pictures.images[:1],))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    name = onnxruntime.InferenceSession(exported, options).get_inputs()[0].name

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = (images.numpy() for images, _ in pictures.batches())

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self._left, None)
            return None if images is None else {name: images}

    ort.quantize_static(
        str(exported),
        str(quantized),
        Reader(),
        quant_format=ort.QuantFormat.QDQ,
        per_channel=True,
        calibrate_method=ort.CalibrationMethod[method],
    )
    session = onnxruntime.InferenceSession(quantized, options)
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


MAKERS: dict[str, Callable[[nn.Module, Pictures, Path], Produce]] = {
    "float": lambda model, pictures, folder: model,
    **{
        f"qatspec {name}": partial(ours, name)
        for name in ("min_max", "percentile", "mse", "kl", "mix")
    },
    **{f"torch.ao FX {name}": partial(torch_fx, name) for name in ("x86", "onednn", "qnnpack")},
    **{
        f"onnxruntime {name}": partial(onnxruntime_static, name)
        for name in ("MinMax", "Percentile", "Entropy")
    },
}


def judge(produce: Produce, pictures: Pictures) -> tuple[float, list[int]]:
    """top-1 in percent, and the best class of every picture."""
    best = torch.cat([produce(images).argmax(1) for images, _ in pictures.batches()])
    return 100.0 * float((best == pictures.labels).float().mean()), best.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--workdir", type=Path, default=Path("runs/bench/lite0_observers"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")

    folder = given.workdir.resolve()
    settings = lite0.settings(given.data.resolve(), given.weights, folder)
    model = network(settings)
    book = folder / "rows.json"
    rows: dict[str, Any] = json.loads(book.read_text()) if book.exists() else {}
    if len(rows) < len(MAKERS):
        train, val = (
            read(given.data.resolve(), Path(settings[f"vars.{k}"])) for k in ("train", "val")
        )
    for name, make in MAKERS.items():
        if name in rows:
            continue
        start = time.process_time()
        with torch.no_grad():
            top1, best = judge(make(model, train, folder), val)
        rows[name] = {"top1": top1, "best": best, "cpu": time.process_time() - start}
        book.write_text(json.dumps(rows))
        print(f"{name}: {top1:.2f}", flush=True)

    base = rows["float"]
    print("| quantization | top-1 | to float | same class as float | CPU seconds |")
    print("|---|---|---|---|---|")
    for name in MAKERS:
        row = rows[name]
        same = 100.0 * float(np.mean(np.array(row["best"]) == np.array(base["best"])))
        change = row["top1"] - base["top1"]
        print(f"| {name} | {row['top1']:.2f} | {change:+.2f} | {same:.1f} % | {row['cpu']:.0f} |")
    lost = base["top1"] - max(row["top1"] for name, row in rows.items() if "qatspec" in name)
    sys.exit(0 if lost <= ALLOWED else 1)


if __name__ == "__main__":
    main()

"""Twelve mistakes, and what a quantizer says to each, as JSON.

    python tests/bench/peers/mistakes.py PEER FOLDER [--only MISTAKE]

Each is made alone, from preparation to the file in onnxruntime, beside a run without a mistake.
An answer is what the run with the mistake raises, warns of or prints and the other one does not:

    named   an error or a warning that holds one of the mistake's words: the name of the layer, key,
            file or function to look at
    error   an error without such a word
    said    a warning or a line that is no error and has no such word
    silent  a file, and nothing else
    right   the same, of one convolution on two tensors, where the file's outputs are in the mean
            within a tenth of a standard deviation of the float net's: it is no mistake there

The list is qatspec's authors': these are mistakes that its users and issue trackers report.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import task
import torch
from adapter import Adapter
from adapters import ADAPTERS
from measure import runner
from torch import Tensor, nn

SIDE = 32
#: Distance of outputs, in their standard deviations, up to which a file is right.
NEAR = 0.1


class Distance(float):
    """Of a file's outputs from those of the float net, in their standard deviations."""


class Net(nn.Module):
    """Three convolutions; what follows the second may be another one."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.middle = middle or nn.Identity()
        self.tail = nn.Conv2d(8, 8, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tail(self.middle(self.body(self.stem(x))))
        return self.head(self.pool(x).flatten(1))


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return x * 2
        return x


class Twice(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        x = self.tail(100 * self.tail(x))
        return self.head(self.pool(x).flatten(1))


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.fft.rfft2(x).abs().mean((2, 3), keepdim=True)


class Idle(Net):
    """`body.0` is trained by nobody: forward does not call it."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(8, 8, 1)


def _settled(net: nn.Module) -> nn.Module:
    """The net with weights of a seed and statistics in its batch norms, in eval mode."""
    torch.manual_seed(0)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 3, SIDE, SIDE))
    return net.eval()


def _batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 3, SIDE, SIDE, generator=generator) for _ in range(2)]


def chain(
    adapter: Adapter, net: nn.Module, batches: list[Tensor], file: Path, bits: int = 8
) -> Any:
    """Prepare, calibrate, two steps of training, export, onnxruntime."""
    made = adapter.prepare(net, batches, bits)
    return rest(adapter, made, file)


def rest(adapter: Adapter, made: nn.Module, file: Path, steps: int = 2) -> Any:
    adapter.train(made, True)
    updates = task.optimizer(made, 1e-3)
    for x in _batches()[:steps]:
        task.step(made, updates, x, torch.arange(8))
    adapter.train(made, False)
    one = _batches()[0][:1]
    exported = adapter.export(made, one, file)
    return exported.values(runner(exported)(*exported.feeds(one.numpy())))


def _twice(adapter: Adapter, file: Path) -> Any:
    """Without a step of training, so that the float net is what the file should be."""
    net = _settled(Twice())
    with torch.no_grad():
        expected = net(_batches()[0][:1]).numpy()
    made = adapter.prepare(net, _batches(), 8)
    far = np.abs(rest(adapter, made, file, steps=0) - expected).mean() / expected.std()
    return Distance(far)


def _poisoned_weight() -> nn.Module:
    net = _settled(Net())
    net.tail.weight.data[0, 0, 0, 0] = float("nan")
    return net


def _poisoned_batches() -> list[Tensor]:
    batches = _batches()
    batches[1][3, 1, 4, 4] = float("nan")
    return batches


def _untrained_norms(adapter: Adapter, file: Path) -> Any:
    torch.manual_seed(0)
    return chain(adapter, Net().eval(), _batches(), file)


def _uncalibrated(adapter: Adapter, file: Path) -> Any:
    return chain(adapter, _settled(Net()), [torch.zeros(8, 3, SIDE, SIDE)], file)


def _other_weights(adapter: Adapter, file: Path) -> Any:
    made = adapter.prepare(_settled(Net()), _batches(), 8)
    state = {k.replace("tail", "tale"): v for k, v in made.state_dict().items()}
    made.load_state_dict(state, strict=False)
    return rest(adapter, made, file)


def _diverged(adapter: Adapter, file: Path) -> Any:
    made = adapter.prepare(_settled(Net()), _batches(), 8)
    adapter.train(made, True)
    updates = task.optimizer(made, 1e30)
    for x in _batches():
        task.step(made, updates, x, torch.arange(8))
    return rest(adapter, made, file)


Made = Callable[[Adapter, Path], Any]
#: mistake -> (words of which an answer should hold one, what makes it)
MISTAKES: dict[str, tuple[tuple[str, ...], Made]] = {
    "a misspelt key": (
        ("obsrver",), lambda a, f: rest(a, a.misspelt_key(_settled(Net()), _batches()), f)
    ),
    "a rule for a layer that does not exist": (
        ("body.99",), lambda a, f: rest(a, a.unmatched_rule(_settled(Net()), _batches()), f)
    ),
    "weights of 0 bits": (
        ("int0", "bit", "quant_min"), lambda a, f: chain(a, _settled(Net()), _batches(), f, 0)
    ),
    "forward branches on the numbers in a tensor": (
        ("Branch", "middle", "mistakes.py"),
        lambda a, f: chain(a, _settled(Net(Branch())), _batches(), f),
    ),
    "one convolution on two tensors of different size": (
        ("tail",), _twice
    ),
    "an op without an integer form (a Fourier transform)": (
        ("fft", "middle"), lambda a, f: chain(a, _settled(Net(Spectrum())), _batches(), f)
    ),
    "a weight that is NaN": (
        ("tail",), lambda a, f: chain(a, _poisoned_weight(), _batches(), f)
    ),
    "a calibration picture with a NaN": (
        ("NaN", "nan", "finite"), lambda a, f: chain(a, _settled(Net()), _poisoned_batches(), f)
    ),
    "calibration on black pictures": (
        ("stem", "zero", "range", "constant", "input"), _uncalibrated
    ),
    "batch norms that never ran": (("stem.1", "batch norm", "BatchNorm"), _untrained_norms),
    "a layer that forward does not call": (
        ("unused",), lambda a, f: chain(a, _settled(Idle()), _batches(), f)
    ),
    "training that diverged": (("NaN", "nan", "finite", "infinit", "stem.0"), _diverged),
}  # fmt: skip
VARIABLE = re.compile(r"0x[0-9a-f]+|\d+")
#: What a progress bar writes, at moments of its own.
PROGRESS = re.compile(r"\d+%\||it/s\]|s/it\]")


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def heard(run: Callable[[], Any]) -> tuple[str, list[str], Any]:
    """Run; returns the text of an error ("" for none), the lines that were said and the result."""
    printed, log, error, result = io.StringIO(), _Heard(), "", None
    logging.getLogger().addHandler(log)
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            result = run()
    except Exception as raised:  # noqa: BLE001  what it says is the result
        error = f"{type(raised).__name__}: {raised}"
    finally:
        logging.getLogger().removeHandler(log)
    lines = [str(w.message) for w in warned] + log.lines + printed.getvalue().splitlines()
    return error, [line for line in lines if line.strip() and not PROGRESS.search(line)], result


def judged(words: tuple[str, ...], error: str, lines: list[str]) -> dict[str, str]:
    telling = [line for line in lines if any(word in line for word in words)]
    if any(word in error for word in words):
        shown = next(s for s in error.splitlines() if any(word in s for word in words))
        return {"answer": "named", "text": shown.strip()[:200]}
    if telling:
        return {"answer": "named", "text": telling[0].strip()[:200]}
    if error:
        return {"answer": "error", "text": error.strip().splitlines()[0][:200]}
    if lines:
        return {"answer": "said", "text": lines[0].strip()[:200]}
    return {"answer": "silent", "text": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=ADAPTERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="keep the other answers as they are in FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.folder / f"{options.peer}-mistake.onnx"

    def of(make: Made) -> tuple[str, list[str], Any]:
        return heard(lambda: make(ADAPTERS[options.peer](), file))

    def plain(adapter: Adapter, file: Path) -> Any:
        return chain(adapter, _settled(copy.deepcopy(Net())), _batches(), file)

    of(plain)  # what is said at the first use alone
    error, usual, _ = of(plain)
    known = {VARIABLE.sub("#", line) for line in usual}
    answers: dict[str, Any] = {"peer": options.peer, "without a mistake": error or "a file"}
    kept = options.folder / f"{options.peer}-mistakes.json"
    if options.only:
        answers = json.loads(kept.read_text())
    for mistake, (words, make) in MISTAKES.items():
        if options.only not in mistake:
            continue
        error, lines, result = of(make)
        new = [line for line in lines if VARIABLE.sub("#", line) not in known]
        answers[mistake] = judged(words, error, new)
        if answers[mistake]["answer"] == "silent" and isinstance(result, Distance):
            answers[mistake] = {
                "answer": "right" if result <= NEAR else "silent",
                "text": f"{result:.3f} of a standard deviation",
            }
        print(mistake, answers[mistake], flush=True)
        kept.write_text(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main()

"""One way to call every quantizer: prepare and calibrate, train, export.

Each adapter does what the documentation of its project shows, with its defaults for a CPU. Two
choices are made for all: activations have 8 bits, and weights have a scale for each output channel
(the defaults of Brevitas and qnnpack have one for a tensor). The libraries are imported where they
are used: each is in a virtual environment of its own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Batches = Sequence[Tensor]


@dataclasses.dataclass
class Exported:
    """An ONNX file. feeds: float picture -> what the file takes; values: its outputs in float."""

    file: Path
    feeds: Callable[[np.ndarray], list[np.ndarray]] = lambda x: [x]
    values: Callable[[list[np.ndarray]], np.ndarray] = lambda outputs: outputs[0]


class Adapter:
    """What a quantizer does with a float net in eval mode."""

    #: Widths of weights that its training takes.
    bits: tuple[int, ...] = (8, 4)
    #: What is worth knowing beside its figures.
    note = ""

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        """Insert what quantizes and calibrate; returns a module to train. The net may be changed.

        bits: of the weights; 0 is a mistake that `mistakes.py` makes.
        """
        raise NotImplementedError

    def train(self, net: nn.Module, on: bool) -> None:
        """Switch between training and evaluation."""
        net.train(on)

    def settle(self, net: nn.Module) -> None:
        """What the project's recipe freezes for the last third of training, such as observers."""

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        """Write the trained net, in eval mode, for onnxruntime. x: one picture."""
        torch.onnx.export(net, (x,), file, opset_version=17, dynamo=False)
        return Exported(file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        """`prepare` with `obsrver` for a key, or another letter missing."""
        raise NotImplementedError

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        """`prepare` with a rule for the layer `body.99`, which there is not."""
        raise NotImplementedError


#: CPU seconds of each call of `run`, which calibrates; `costs.py` looks at them.
calibrating: list[float] = []


def run(net: nn.Module, batches: Batches) -> nn.Module:
    begun = time.process_time()
    with torch.no_grad():
        for x in batches:
            net(x)
    calibrating.append(time.process_time() - begun)
    return net

"""Batch norms that normalize with the statistics of each batch, in evaluation too: in the prepared
model they keep running statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS615
from qatspec.diag.words import quote_list


def keep_statistics(
    model: nn.Module, paths: Iterable[str], example_inputs: Sequence[Any]
) -> list[Diagnostic]:
    """Give the batch norms without running statistics those of the example inputs.

    A chip computes one image at a time: statistics of a batch cannot be integers there. With those
    of the examples as running ones, evaluation of the examples computes what the float model does;
    training uses the batch's as before, and averages them.

    model           is changed; it runs once, in its present mode, where it has such batch norms.
    paths           of the parts that are prepared, "" for the model; others keep their norms.
    example_inputs  the model's arguments: tensors with numbers that are typical of its data.

    Returns a warning QS615 that names the norms; nothing where there are none, or where the model
    fails on the examples.
    """
    parts = [model.get_submodule(path) for path in paths]
    prepared = {id(module) for part in parts for module in part.modules()}
    norms = {
        path: _Statistics(module)
        for path, module in model.named_modules()
        if id(module) in prepared and _lacks_statistics(module)
    }
    if not norms:
        return []
    training = {module: module.training for module in model.modules()}
    hooks = [entry.norm.register_forward_pre_hook(entry.add) for entry in norms.values()]
    try:
        with torch.no_grad():
            model.eval()(*example_inputs)
    except Exception:  # noqa: BLE001 - tracing reports what forward raises, with its line
        return []
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    called = [path for path, entry in norms.items() if entry.calls]
    for path in called:
        norms[path].keep()
    return [_told(called)] if called else []


def _lacks_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None


class _Statistics:
    """The mean and variance per channel of what a batch norm is called on, averaged over calls."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.calls = 0
        self._mean: Any = 0.0
        self._variance: Any = 0.0

    def add(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        dims = [dim for dim in range(x.ndim) if dim != 1]
        self.calls += 1
        self._mean = self._mean + (x.mean(dims) - self._mean) / self.calls
        variance = x.var(dims, correction=0)  # what the batch is divided by
        self._variance = self._variance + (variance - self._variance) / self.calls

    def keep(self) -> None:
        norm = self.norm
        norm.track_running_stats = True
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            norm._buffers.pop(name, None)
        norm.register_buffer("running_mean", self._mean.float())
        norm.register_buffer("running_var", self._variance.float())
        norm.register_buffer("num_batches_tracked", torch.tensor(self.calls))


def _told(paths: Sequence[str]) -> Diagnostic:
    who = "a batch norm has" if len(paths) == 1 else f"{len(paths)} batch norms have"
    return QS615.warning(
        f"{who} no running statistics, so that the float model's result for one image depends on "
        f"the others of its batch: {quote_list(paths)}; the prepared model has those of the "
        "example inputs as running statistics, and training averages over its batches",
        help="pass a batch of real data as example inputs, or build the norms with "
        "`track_running_stats=True` and train the float model",
    )

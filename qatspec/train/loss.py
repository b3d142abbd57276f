"""Model and loss as one forward, in the precision that a trainer asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.diag.codes import QS963
from qatspec.registry import registry
from qatspec.train.batch_norm import SynchronizedBatchNorm
from qatspec.train.protocol import losses_of
from qatspec.types import TaskModel

#: `amp` of a trainer -> the dtype of its products
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardMode:
    """How forward is called in training.

    autocast      format in which torch computes convolutions and matrix products; None: float32.
    compiled      by torch.compile; at: pointer of the trainer that says so.
    synchronized  batch norms take the statistics of all processes' examples.
    """

    autocast: Literal["bf16", "fp16"] | None = None
    compiled: bool = False
    at: str = ""
    synchronized: bool = False


class Loss(nn.Module):
    """Model and loss as one forward, which is what DDP wraps. The loss is computed in float32."""

    def __init__(self, model: nn.Module, mode: ForwardMode) -> None:
        super().__init__()
        self.model = model
        self._mode = mode
        self._around = SynchronizedBatchNorm() if mode.synchronized else nullcontext()
        self._call: Callable[..., Any] = model.__call__
        if mode.compiled:
            self._call = _compiled(model, mode.at)

    def forward(
        self, inputs: Sequence[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        with self._around:
            with registry().attribute_errors_of(self.model, "forward"), self._autocast(inputs):
                try:
                    outputs = self._call(*inputs)
                except (MemoryError, torch.OutOfMemoryError):
                    raise
                except Exception:
                    if not self._mode.compiled:
                        raise
                    self.model(*inputs)  # what fails uncompiled too is a fault of the model
                    raise
            if self._mode.autocast is not None:
                outputs = pytree.tree_map_only(Tensor, _in_float32, outputs)
            with registry().attribute_errors_of(self.model, "loss"):
                losses = cast(TaskModel, self.model).loss(outputs, targets)
        return losses_of(self.model, losses)

    def _autocast(self, inputs: Sequence[Tensor]) -> AbstractContextManager[Any]:
        if self._mode.autocast is None:
            return nullcontext()
        return torch.autocast(inputs[0].device.type, AMP_DTYPES[self._mode.autocast])


def _in_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def demand_compiler(device: torch.device, at: str) -> None:
    """Compile a small function for a device. at: pointer of the trainer with `compile: true`.

    Raises DiagnosticError QS963 where this machine lacks what torch.compile needs."""
    with torch.no_grad():
        _compiled(nn.ReLU(), at)(torch.zeros(2, device=device))


def _compiled(model: nn.Module, at: str) -> Callable[..., Any]:
    """A compiled call of `model`, which raises DiagnosticError QS963 where it cannot be compiled.
    As a function it is no child module, which would repeat every parameter under a second name."""

    def call(*inputs: Tensor) -> Any:
        return model(*inputs)

    if torch.are_deterministic_algorithms_enabled():  # the compiler is told only now
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
    compiled = torch.compile(call)

    def run(*inputs: Tensor) -> Any:
        try:
            return compiled(*inputs)
        except Exception as error:
            if not _is_of_compiler(error):
                raise
            reason = " ".join(str(error).strip().partition("\n\n")[0].split())
            raise QS963.error(
                f"torch.compile fails: {reason}",
                help="delete `compile`, or install what the message names",
                at=f"{at}/compile",
            ) from error

    return run


def _is_of_compiler(error: Exception) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # its import takes two seconds

    return isinstance(error, TorchDynamoException)

"""The protocols between models, data sets and the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from qatspec.diag import Diagnostic


@dataclass(frozen=True, slots=True)
class Sample:
    """One example as a data set yields it.

    image   float32 (C, H, W), normalised as the model takes it.
    target  name -> array; detection: boxes (M, 4) float32 xyxy in input pixels, labels (M,) int64.
    meta    what evaluate() needs to map predictions back: id, scale, original size, ...
    warnings  what the user should know of the example; equal ones are shown once.
    """

    image: np.ndarray
    target: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[Diagnostic] = ()


class Dataset(Protocol):
    """What DatasetDef.open returns.

    A data set whose pictures change in the course of training (augmentation that rests in the last
    epochs) may also have `begin_epoch(epoch: int)`, which is called before each epoch of a stage
    with its number from 0.
    """

    #: class names in label order
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The example at `index`. All randomness comes from `rng`, which depends on
        (seed, epoch, index) alone, so that worker counts never change a byte.
        Raises DiagnosticError on a broken file; the data role's `broken` says what follows."""
        ...

    def evaluate(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, float]:
        """Metrics, 0-100, of (meta, prediction) pairs over the whole set.

        The mapping has the key that DatasetDef.metric names. Another metric that nothing decides
        may be absent or NaN."""
        ...


class PictureDataset(Dataset, Protocol):
    """A data set that also reads pictures from outside, for `qatspec infer`.

    It is optional: pictures for a data set without `read` are read as `model.input` says
    (qatspec.api.ModelInput). A `read` that returns the meta of `ModelInput.read` needs neither
    `restore` nor `restore_mask`.
    """

    def read(self, path: Path) -> Sample:
        """A picture file as the model takes it, without a target. Raises DiagnosticError."""
        ...

    def restore(self, meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
        """Boxes (K, 4) xyxy of input pixels in the pixels of the picture that `meta` is of.
        Asked for predictions that hold `boxes`."""
        ...

    def restore_mask(self, meta: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) uint8 of input pixels as (height, width) uint8 of the picture that `meta`
        is of. Asked for predictions that hold `mask`."""
        ...


class TaskModel(Protocol):
    """What ModelDef.build returns: an nn.Module with these methods.

    Loss, target assignment and post-process are never quantized: they are not in forward.
    """

    def forward(self, images: torch.Tensor) -> Any:
        """(N, C, H, W) -> a tree of raw outputs, exactly what ships to the chip (eval mode)."""
        ...

    def loss(
        self, outputs: Any, targets: Sequence[Mapping[str, torch.Tensor]]
    ) -> torch.Tensor | Mapping[str, torch.Tensor]:
        """One scalar, or named scalars to be summed; outputs as forward returned them in training
        mode."""
        ...

    def predict(self, outputs: Any) -> list[dict[str, torch.Tensor]]:
        """Decode raw outputs to one prediction an image, in input pixels.
        Detection: boxes (K, 4) xyxy, scores (K,), labels (K,)."""
        ...

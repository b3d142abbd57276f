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
    from qatspec.picture import Pixels


@dataclass(frozen=True, slots=True)
class Sample:
    """One example as a data set yields it.

    image   float32 (C, H, W), normalised as the model takes it; with `model.inputs`, a mapping of
            their names to arrays: pictures like that, other inputs of their `shape` and `dtype`.
    target  name -> array; detection: boxes (M, 4) float32 xyxy in input pixels, labels (M,) int64.
    meta    what evaluate() needs to map predictions back: id, scale, original size, ...
    warnings  what the user should know of the example; equal ones are shown once.
    """

    image: np.ndarray | Mapping[str, np.ndarray]
    target: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[Diagnostic] = ()


@dataclass(frozen=True, slots=True)
class PixelSample:
    """One example as a data set yields it whose picture is still bytes.

    Batches of such examples are a fourth of the size on their way out of a worker process and into
    the memory of a GPU, and are normalised there, with the same numbers.

    pixels  the picture; with `model.inputs`, a mapping of their names to pictures and to arrays as
            in Sample.image.
    target, meta, warnings: as in Sample.
    """

    pixels: Pixels | Mapping[str, Pixels | np.ndarray]
    target: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[Diagnostic] = ()

    @property
    def image(self) -> np.ndarray | Mapping[str, np.ndarray]:
        """The picture as in Sample.image, float32 (C, H, W), or the mapping; computed at each
        access."""
        if isinstance(self.pixels, Mapping):
            return {name: _normalized(value) for name, value in self.pixels.items()}
        return self.pixels.normalized()


def _normalized(value: Pixels | np.ndarray) -> np.ndarray:
    # This module is imported without numpy, which Pixels needs: no class to ask for.
    either: Any = value
    array: np.ndarray = either.normalized() if hasattr(either, "normalized") else either
    return array


class Dataset(Protocol):
    """What DatasetDef.open returns.

    A data set whose pictures change in the course of training (augmentation that rests in the last
    epochs) may also have `begin_epoch(epoch: int)`, which is called before each epoch of a stage
    with its number from 0: in the process of the training, and in each loader worker, which has a
    copy of the data set and stays from epoch to epoch.
    """

    #: class names in label order
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator) -> Sample | PixelSample:
        """Return the example at `index`, 0 to the length of the set: a PixelSample where the
        picture is made of bytes to the end, a Sample where a change gives other numbers.

        All randomness comes from `rng`, which depends on (seed, epoch, index) alone, so that worker
        counts never change a byte. Raises DiagnosticError on a broken file; the data role's
        `broken` says what follows.
        """
        ...

    def evaluate(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, float]:
        """Return metrics, 0 to 100, of the whole set.

        predictions: (meta of a sample, what `predict` returned for it as arrays, without a batch
        dim: boxes (K, 4), scores (K,), ...), in any order. The mapping has the key that
        DatasetDef.metric names. Another metric that nothing decides may be absent or NaN.
        """
        ...


class DetailedDataset(Dataset, Protocol):
    """A data set that also judges each class, for `qatspec report`. It is optional."""

    def details(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> Mapping[str, Any]:
        """Return what `evaluate` leaves out, of the same predictions. Each key is optional.

        classes    class -> {metric: value, 0 to 100}; a value may be absent.
        curves     class -> [(recall, precision), ...], both 0 to 1.
        confusion  counts (classes, classes or one more): true by predicted classes in label order,
                   the last column those outside.
        """
        ...


class PictureDataset(Dataset, Protocol):
    """A data set that also reads pictures from outside, for `qatspec infer`.

    It is optional: pictures for a data set without `read` are read as `model.input` says
    (qatspec.api.ModelInput). A `read` that returns the meta of `ModelInput.read` needs neither
    `restore` nor `restore_mask`.
    """

    def read(self, path: Path) -> Sample:
        """Read the picture file at `path` as the model takes it. Returns a sample without a target.
        Raises DiagnosticError for a file that is no picture."""
        ...

    def restore(self, meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
        """Return `boxes` (K, 4) xyxy of input pixels in pixels of the picture that `meta` is of.
        Asked for predictions that hold `boxes`."""
        ...

    def restore_mask(self, meta: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
        """Return a `mask` (H, W) uint8 of input pixels as (height, width) uint8 of the picture that
        `meta` is of. Asked for predictions that hold `mask`."""
        ...


class TaskModel(Protocol):
    """What ModelDef.build returns: an nn.Module with these methods.

    Loss, target assignment and post-process are never quantized: they are not in forward.

    A model may also have `predict_numbers(outputs)`, which returns how many numbers `predict` reads
    or makes for one image at most; `qatspec perf SPEC` counts them as time of the CPU.
    """

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Compute the raw outputs of images (N, C, H, W) float32, or of the tensors that
        `model.inputs` names after the arguments. Returns a tree of tensors, in eval mode exactly
        what ships to the chip."""
        ...

    def loss(
        self, outputs: Any, targets: Sequence[Mapping[str, torch.Tensor]]
    ) -> torch.Tensor | Mapping[str, torch.Tensor]:
        """Return one scalar, or named scalars to be summed.

        outputs: as forward returned them in training mode. targets: of each image, what the data
        set gives as its target.
        """
        ...

    def predict(self, outputs: Any) -> list[dict[str, torch.Tensor]]:
        """Return one prediction for each image from raw `outputs`, in input pixels.

        Detection: boxes (K, 4) xyxy, scores (K,), labels (K,).
        """
        ...

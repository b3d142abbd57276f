"""Random changes by torchvision's v2 transforms, where that package is installed: the param
`augment.torchvision` of the data sets."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import ModelInput, codes
from qatspec_vision.data.cityscapes_layout import IGNORED
from qatspec_vision.installed import library

#: Integers below it seed torch's generator.
_SEEDS = 1 << 63
#: Where the transforms are in the entry of a data set.
_AT = "params/augment/torchvision"


class Transforms:
    """The transforms of a spec, applied to pictures of the input's size.

    given  names of torchvision.transforms.v2, each alone or as a mapping from the name to its
           params, in the order in which they are applied.

    Raises DiagnosticError: QS915 without torchvision, QS917 for a name or params that it does not
    have, and for a transform that changes the size of the picture.
    """

    def __init__(self, entries: Sequence[Any], fed: ModelInput) -> None:
        self._fed, self._torch = fed, importlib.import_module("torch")
        self._v2, self._kinds = (
            library(f"torchvision.{module}", "transforms of `augment.torchvision`", _AT)
            for module in ("transforms.v2", "tv_tensors")
        )
        self._apply = self._v2.Compose([self._built(entry) for entry in entries])
        height, width = fed.size
        self(Image.new("RGB", (width, height)), np.random.default_rng(0))

    @staticmethod
    def of(augment: Mapping[str, Any], fed: ModelInput) -> Transforms | None:
        """From a spec's `augment`; None where it names none."""
        entries = augment.get("torchvision")
        return Transforms(entries, fed) if entries else None

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, **targets: np.ndarray
    ) -> tuple[Image.Image, dict[str, np.ndarray]]:
        """The changed picture and targets. All randomness comes from `rng`.

        targets: boxes (M, 4) float32 xyxy with labels (M,) int64, or mask (H, W); boxes are clipped
        to the picture, and those that are no longer a pixel wide and high are left out.
        """
        torch = self._torch  # it is heavy, and most sets need none of it
        pixels = np.array(image).transpose(2, 0, 1)
        sample = {"image": self._kinds.Image(torch.from_numpy(pixels))}
        size = (image.height, image.width)
        if "boxes" in targets:
            boxes = self._kinds.BoundingBoxes(
                torch.from_numpy(targets["boxes"]), format="XYXY", canvas_size=size
            )
            sample |= {"boxes": boxes, "labels": torch.from_numpy(targets["labels"])}
        if "mask" in targets:
            sample["mask"] = self._kinds.Mask(torch.from_numpy(np.array(targets["mask"])))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(_SEEDS)))
            changed = self._apply(sample)
        made = changed["image"]
        if tuple(made.shape) != (3, *size) or made.dtype != torch.uint8:
            raise codes.QS917.error(
                f"the transforms of torchvision turn a picture of bytes {(3, *size)} into "
                f"{str(made.dtype).removeprefix('torch.')} {tuple(made.shape)}",
                help="leave out what changes the size or the type of pictures: `size`, `mean` and "
                "`std` are those of `model.input`",
                at=_AT,
            )
        kept = {name: np.asarray(changed[name]) for name in targets}
        if "boxes" in kept:
            kept = _seen(kept["boxes"], kept["labels"], size)
        return Image.fromarray(made.permute(1, 2, 0).numpy()), kept

    def _built(self, entry: Any) -> Any:
        name, params = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        kind = getattr(self._v2, name, None)
        if not (isinstance(kind, type) and issubclass(kind, self._v2.Transform)):
            near = get_close_matches(name, [n for n in dir(self._v2) if n[:1].isupper()], 1)
            raise codes.QS917.error(
                f"torchvision.transforms.v2 has no transform `{name}`",
                help=f"did you mean `{near[0]}`?" if near else "write a name of its documentation",
                at=_AT,
            )
        known = inspect.signature(kind).parameters
        if unknown := [key for key in params if key not in known]:
            raise codes.QS917.error(
                f"`{name}` of torchvision has no param `{unknown[0]}`",
                help=f"it takes {', '.join(f'`{key}`' for key in known) or 'none'}",
                at=_AT,
            )
        try:
            return kind(**self._values(params, known))
        except (TypeError, ValueError, RuntimeError) as error:
            raise codes.QS917.error(
                f"torchvision does not build `{name}`: {error}",
                help="correct its params as the documentation of torchvision has them",
                at=_AT,
            ) from error

    def _values(self, params: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """The params as torchvision takes them. Padding is that of the data set: the mean, and
        where a mask is padded, what does not count."""
        values = dict(params)
        if isinstance(values.get("interpolation"), str):
            values["interpolation"] = self._v2.InterpolationMode(values["interpolation"])
        if "transforms" in values:
            values["transforms"] = [self._built(entry) for entry in values["transforms"]]
        if "fill" in known:
            fill = values.get("fill", list(self._fed.fill))
            values["fill"] = {self._kinds.Image: fill, self._kinds.Mask: IGNORED, "others": 0}
        return values


def _seen(boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    height, width = size
    clipped = np.clip(boxes, 0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    visible = (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)
    return {"boxes": clipped[visible], "labels": labels[visible]}

"""Files of each kind that qatspec reads, sound ones: what `fuzz_files` damages."""

from __future__ import annotations

import io
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.nets, when run as a program
from qatspec.api import compile, lower, to_onnx
from qatspec.program import serde
from qatspec.train import checkpoint
from tests.nets import conv_bn, settle


class Net(torch.nn.Module):
    """Convolutions, a residual, a table, a pool and an int32 tail."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv_bn(3, 8, 3, 2), conv_bn(8, 8, 3)
        self.head = torch.nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.stem(x))
        b = self.body(a) + a
        pooled = torch.nn.functional.max_pool2d(b * torch.sigmoid(b), 2)
        return self.head(pooled)


@cache
def _program() -> Any:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 16)
    return lower(settle(Net(), x), (x,))


@cache
def programs() -> tuple[bytes, ...]:
    return (serde.to_bytes(_program()),)


@cache
def bins() -> tuple[bytes, ...]:
    return tuple(compile(_program(), march).to_bytes() for march in ("bayes", "bernoulli2"))


@cache
def onnx_files() -> tuple[bytes, ...]:
    path = Path(SCRATCH[0]) / "seed.onnx"
    to_onnx(_program(), path)
    return (path.read_bytes(),)


@cache
def checkpoints() -> tuple[bytes, ...]:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    whole = checkpoint.Checkpoint(
        stage="float", epoch=1, step=3, state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(), rng=checkpoint.rng_state(0), metrics={"AP": 1.0},
    )  # fmt: skip
    plain = io.BytesIO()
    torch.save(model.state_dict(), plain)
    legacy = io.BytesIO()
    torch.save(model.state_dict(), legacy, _use_new_zipfile_serialization=False)
    return whole.to_bytes(), plain.getvalue(), legacy.getvalue()


@cache
def pictures() -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    picture, files = Image.fromarray(pixels), []
    for form, mode in (
        ("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "I;16"), ("JPEG", "RGB"),
        ("JPEG", "CMYK"), ("BMP", "RGB"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "F"),
        ("WEBP", "RGB"), ("PPM", "RGB"), ("TGA", "RGB"), ("PCX", "RGB"), ("SGI", "RGB"),
        ("ICO", "RGB"), ("DDS", "RGB"), ("EPS", "RGB"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        if mode == "I;16":
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(buffer, form)
        else:
            picture.convert(mode).save(buffer, form)
        files.append(buffer.getvalue())
    return tuple(files)


@cache
def annotations() -> tuple[bytes, ...]:
    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 24} for i in (1, 2)]
    boxes = [
        {"id": i, "image_id": 1 + i % 2, "category_id": 3, "bbox": [1, 2, 8, 9], "area": 72,
         "iscrowd": 0, "segmentation": [[1, 2, 9, 2, 9, 11]]}
        for i in range(1, 5)
    ]  # fmt: skip
    categories = [{"id": 3, "name": "cell", "supercategory": "x"}, {"id": 7, "name": "other"}]
    return (
        json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode(),
    )


#: Folder of the child, for seeds that are written as files.
SCRATCH: list[str] = ["."]

"""What a compiled file is fed: a camera's frames, turned into the Program's integers by integers.

A frame (unsigned bytes) becomes the Program's input in three steps, each exact:

chroma  nv12's chroma, at half the size, is repeated (nearest): pixel (i, j) has that of
        (i // 2, j // 2). The frame is H * 3 / 2 rows of W bytes: H of luma, then H / 2 of
        interleaved pairs, blue difference first.
colour  full-range BT.601 (ITU-T T.871, JPEG) where the model is trained on rgb or bgr, with
        coefficients of 16 fractional bits, rounding half up and a clamp to bytes:
        r = y + (91881 v + 32768 >> 16), g = y + (-22554 u - 46802 v + 32768 >> 16),
        b = y + (116130 u + 32768 >> 16), u and v being the chroma less 128. Then the channels are
        put in the model's order.
table   256 entries a channel: the integer of (pixel - mean) / std, each channel with its own mean
        and std, quantized as the Program quantizes it (rule: exact rounding).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qatspec.ir import RANGE, STORAGE, Port
from qatspec.spec.runtime_input import FEEDS

LAYOUTS = ("NCHW", "NHWC")
_COLOURS, _YUV = ("rgb", "bgr"), ("yuv444", "nv12")
#: BT.601 full range, 16 fractional bits: v in r, u and v in g, u in b.
_BITS, _HALF = 16, 1 << 15
_R_V, _G_U, _G_V, _B_U = 91881, -22554, -46802, 116130


@dataclass(frozen=True, kw_only=True, eq=False)
class RuntimeInput:
    """kind: featuremap (the Program's own integers, in another layout), rgb, bgr, yuv444, nv12 or
    gray. format, mean, std: what the model is trained on; mean and std are one number or one for
    each channel. port: the Program's own input."""

    kind: str
    layout: str
    format: str
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    port: Port
    tables: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean, std = (_columns(value, np.float32) for value in (self.mean, self.std))
        pixels = (np.arange(256, dtype=np.float32)[:, None] - mean) / std
        channels = self.port.shape[0]
        real = np.broadcast_to(pixels, (1, channels, 256, 1))
        object.__setattr__(self, "tables", self.port.quantize(real)[0, :, :, 0])

    @property
    def outside(self) -> Port:
        """The port that the compiled file shows."""
        channels, height, width = self.port.shape
        shape = (height, width, channels) if self.layout == "NHWC" else self.port.shape
        if self.kind == "featuremap":
            scale, axis = self.port.scale, self.port.axis
            moved = {None: None, 1: 3, 2: 1, 3: 2}[axis] if self.layout == "NHWC" else axis
            name, dtype = self.port.name, self.port.dtype
            return Port(
                name=name, dtype=dtype, shape=shape, layout=self.layout, scale=scale, axis=moved
            )
        layout = self.layout
        if self.kind == "nv12":
            shape, layout = (height * 3 // 2, width), "NV12"
        one = np.ones(1, np.float32)
        return Port(name=self.port.name, dtype="uint8", shape=shape, layout=layout, scale=one)

    def frame_bytes(self, top: int, bottom: int) -> int:
        """Bytes of the frame that rows top..bottom of the input are made from."""
        channels, _, width = self.port.shape
        if self.kind == "nv12":
            return width * (bottom - top + (bottom + 1) // 2 - top // 2)
        size = np.dtype(STORAGE[self.port.dtype]).itemsize if self.kind == "featuremap" else 1
        return width * channels * (bottom - top) * size

    def integers(self, frame: np.ndarray) -> np.ndarray:
        """Frames (N, ...) as `outside` says to the Program's integers (N, C, H, W)."""
        if self.layout == "NHWC":
            frame = frame.transpose(0, 3, 1, 2)
        if self.kind == "featuremap":
            return np.ascontiguousarray(frame)
        pixels = self._unpack(frame) if self.kind == "nv12" else frame
        if self.kind in _YUV and self.format in _COLOURS:
            pixels = _rgb(pixels)
        pixels = self._in_order(pixels)
        channels = np.arange(pixels.shape[1])[:, None, None]
        return np.ascontiguousarray(self.tables[channels, pixels])

    def frame(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) as the model takes them to the frames that a camera would give:
        normalisation undone, chroma of nv12 the mean of four, all rounded to bytes."""
        if self.kind == "featuremap":
            frame = self.port.quantize(images)
        else:
            mean, std = (_columns(value, np.float64) for value in (self.mean, self.std))
            real = self._in_order(np.asarray(images, np.float64) * std + mean)
            if self.format in _COLOURS and self.kind in _YUV:
                real = _yuv(_bytes(real))
            frame = self._pack(real) if self.kind == "nv12" else _bytes(real)
        frame = frame.transpose(0, 2, 3, 1) if self.layout == "NHWC" else frame
        return np.ascontiguousarray(frame)

    def record(self) -> dict[str, Any]:
        """As JSON, for the manifest: with all that an integrator needs to compute the same."""
        return {
            "type": self.kind,
            "layout": self.layout,
            "trained_on": self.format,
            "mean": _plain(self.mean),
            "std": _plain(self.std),
            "tables": self.tables.tolist(),
            "yuv_to_rgb": {
                "matrix": [[0, _R_V], [_G_U, _G_V], [_B_U, 0]], "bits": _BITS, "round": "half_up"
            },
            "chroma": "nearest",
        }  # fmt: skip

    @classmethod
    def of(cls, record: Mapping[str, Any], port: Port) -> RuntimeInput:
        """What `record` gave, checked. Raises KeyError, TypeError or ValueError."""
        kind, layout, trained_on = record["type"], record["layout"], record["trained_on"]
        feeds = ("featuremap", *FEEDS[trained_on])
        if kind not in feeds or layout not in LAYOUTS:
            raise ValueError("its runtime input is not one of qatspec")
        if len(port.shape) != 3 or port.dtype not in RANGE:
            raise ValueError("its runtime input does not fit its program")
        mean, std = (_numbers(record[key], port.shape[0]) for key in ("mean", "std"))
        if np.min(std) <= 0:
            raise ValueError("its runtime input does not fit its program")
        even = not any(side % 2 for side in port.shape[1:]) and layout == "NCHW"
        channels = {"featuremap": port.shape[0], "gray": 1}.get(kind, 3)
        if port.shape[0] != channels or (kind == "nv12" and not even):
            raise ValueError("its runtime input does not fit its program")
        made = cls(
            kind=kind, layout=layout, format=trained_on, mean=mean, std=std, port=port
        )  # fmt: skip
        if made.record() != dict(record):
            raise ValueError("the tables of its runtime input are not those of its mean and std")
        return made

    def _in_order(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, C, H, W) in the model's order of channels, or back in that of the frame."""
        order = self.kind if self.kind in _COLOURS else "rgb"
        turned = self.format in _COLOURS and self.format != order
        return pixels[:, ::-1] if turned else pixels

    def _unpack(self, frame: np.ndarray) -> np.ndarray:
        """nv12 (N, 3H/2, W) to yuv444 (N, 3, H, W), chroma repeated."""
        _, height, width = self.port.shape
        luma = frame[:, None, :height]
        pairs = frame[:, height:].reshape(-1, height // 2, width // 2, 2).transpose(0, 3, 1, 2)
        return np.concatenate([luma, pairs.repeat(2, axis=2).repeat(2, axis=3)], axis=1)

    def _pack(self, yuv: np.ndarray) -> np.ndarray:
        """yuv444 (N, 3, H, W) real to nv12 (N, 3H/2, W)."""
        count, _, height, width = yuv.shape
        quads = yuv[:, 1:].reshape(count, 2, height // 2, 2, width // 2, 2).mean((3, 5))
        pairs = quads.transpose(0, 2, 3, 1).reshape(count, height // 2, width)
        return _bytes(np.concatenate([yuv[:, 0], pairs], axis=1))


def _columns(value: float | tuple[float, ...], dtype: Any) -> np.ndarray:
    """A mean or std as an array (1 or C, 1, 1)."""
    return np.asarray(value, dtype).reshape(-1, 1, 1)


def _plain(value: float | tuple[float, ...]) -> float | list[float]:
    return list(value) if isinstance(value, tuple) else value


def _numbers(value: Any, channels: int) -> float | tuple[float, ...]:
    """A mean or std of a record. Raises TypeError or ValueError."""
    entries = value if isinstance(value, list) else [value]
    if not all(type(v) in (int, float) and abs(v) < 1e9 for v in entries):
        raise ValueError("its runtime input is not one of qatspec")
    if isinstance(value, list) and len(value) != channels:
        raise ValueError("its runtime input does not fit its program")
    return tuple(value) if isinstance(value, list) else value


def _bytes(real: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.rint(real), 0, 255), np.uint8)


def _rgb(yuv: np.ndarray) -> np.ndarray:
    """Full-range BT.601 bytes (N, 3, H, W) to rgb bytes."""
    y, u, v = (yuv[:, c].astype(np.int32) for c in range(3))
    u, v = u - 128, v - 128
    red = y + ((_R_V * v + _HALF) >> _BITS)
    green = y + ((_G_U * u + _G_V * v + _HALF) >> _BITS)
    blue = y + ((_B_U * u + _HALF) >> _BITS)
    return np.asarray(np.clip(np.stack([red, green, blue], axis=1), 0, 255), np.uint8)


def _yuv(rgb: np.ndarray) -> np.ndarray:
    """Rgb bytes (N, 3, H, W) to real full-range BT.601 numbers (ITU-T T.871)."""
    matrix = np.array(
        [
            [0.299, 0.587, 0.114],
            [-0.299 / 1.772, -0.587 / 1.772, 0.5],
            [0.5, -0.587 / 1.402, -0.114 / 1.402],
        ]
    )
    offset = np.array([0.0, 128.0, 128.0]).reshape(1, 3, 1, 1)
    return np.asarray(np.einsum("dc,nchw->ndhw", matrix, rgb.astype(np.float64)) + offset)

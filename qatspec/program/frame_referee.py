"""What a frame means, pixel by pixel from the definitions: the referee of RuntimeInput.integers."""

from __future__ import annotations

import numpy as np

from qatspec.program.runtime_input import RuntimeInput


def interpret_frames(fed: RuntimeInput, frames: np.ndarray) -> np.ndarray:
    """Frames (N, ...) of `fed.outside` to the Program's integers (N, C, H, W). Integers until the
    pixel is known, then the real numbers that the model was trained on and its quantizer."""
    _, height, width = fed.port.shape
    rows, columns = np.mgrid[:height, :width]
    if fed.kind == "nv12":
        blue = frames[:, height + rows // 2, columns // 2 * 2]
        red = frames[:, height + rows // 2, columns // 2 * 2 + 1]
        planes = [frames[:, rows, columns], blue, red]
    elif fed.layout == "NHWC":
        planes = [frames[..., channel] for channel in range(frames.shape[-1])]
    else:
        planes = [frames[:, channel] for channel in range(frames.shape[1])]
    if fed.kind == "featuremap":
        return np.stack(planes, axis=1)
    if fed.kind in ("yuv444", "nv12") and fed.format in ("rgb", "bgr"):
        planes = _to_rgb(*(plane.astype(np.int64) for plane in planes))
    if (fed.format == "bgr") != (fed.kind == "bgr"):
        planes = planes[::-1]
    means, stds = (
        np.broadcast_to(np.asarray(value, np.float32), (len(planes),))
        for value in (fed.mean, fed.std)
    )
    real = [
        (plane.astype(np.float32) - mean) / std
        for plane, mean, std in zip(planes, means, stds, strict=True)
    ]
    return fed.port.quantize(np.stack(real, axis=1))


def _to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
    """ITU-T T.871: 1.402, 0.344136, 0.714136 and 1.772 in units of 2^-16, nearest, as libjpeg has
    them; floor(x + 1/2)."""
    blue, red = u - 128, v - 128
    parts = (91881 * red, -22554 * blue - 46802 * red, 116130 * blue)
    return [np.clip(y + (2 * part + 65536) // 131072, 0, 255) for part in parts]

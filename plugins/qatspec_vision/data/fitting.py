"""How the data sets fit pictures of any size into the input, as files record it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fitted(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fit of a set for detection or segmentation with these `params`."""
    return {"resize": params.get("resize", "letterbox")}


def classified(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fit of a set for classification with these `params`: its centre crop unless `resize` is
    written."""
    if "resize" in params:
        return {"resize": params["resize"], "crop": None}
    return {"crop": params["crop"]}

"""What a data set tells of each class at a stage's best validation: `logs/<stage>-details.json`.

    {"digest", "metrics": {name: value}, "images", "details": Dataset.details}

The validation of the integers is that of the stage convert. A report shows it without running the
model on all of data.val again; no result is made of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.files import read_json, write_file

#: A detector's of a thousand classes have about 30 MiB.
_MOST_BYTES = 1 << 28


def details_path(workdir: Path, stage: str) -> Path:
    """The file of a stage."""
    return workdir / "logs" / f"{stage}-details.json"


def read_details(path: Path) -> Mapping[str, Any] | None:
    """Read the file of a stage; None where there is none, or it is damaged."""
    try:
        content = read_json(path, _MOST_BYTES)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and _is_complete(content) else None


def _is_complete(content: Mapping[str, Any]) -> bool:
    return (
        isinstance(content.get("digest"), str)
        and isinstance(content.get("images"), int)
        and isinstance(content.get("metrics"), dict)
        and all(isinstance(value, int | float) for value in content["metrics"].values())
        and isinstance(content.get("details"), dict)
    )


def keep_details(workdir: Path, stage: str, digest: str, told: Mapping[str, Any]) -> None:
    """Write the file of a stage unless an earlier validation of the same step was as good: the best
    checkpoint is the first one of the highest metric.

    told: the event "details" (qatspec.engine.events). Raises OSError, and TypeError or ValueError
    where a data set tells what JSON cannot hold.
    """
    path, chooses = details_path(workdir, stage), told["metric"]
    known = read_details(path)
    if known is not None and known["digest"] == digest:
        earlier = known["metrics"].get(chooses, -math.inf)
        if earlier >= told["metrics"][chooses]:
            return
    kept = {key: told[key] for key in ("metrics", "images", "details")}
    text = json.dumps({"digest": digest, **kept}, allow_nan=False)
    path.parent.mkdir(exist_ok=True)
    write_file(path, text.encode())

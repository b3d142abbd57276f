"""What became of every node of a prepared model, as a file beside the checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from qatspec.graph import Prepared
from qatspec.plan import save_modules
from qatspec.stages.context import Context
from qatspec.train.files import write_json

FORMAT = 1


def write_decisions(context: Context, prepared: Prepared) -> Path:
    """Write `<stage>-decisions.json` (qatspec.graph.Decision, in graph order), and keep the module
    table for `explain` and `validate`."""
    path = context.folder / f"{context.stage}-decisions.json"
    if context.group.is_main:
        decisions = [asdict(decision) for decision in prepared.decisions.values()]
        write_json(path, {"format": FORMAT, "decisions": decisions})
        save_modules(context.workdir, context.spec, context.stage, prepared.calls)
    return path

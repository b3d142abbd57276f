"""Integer IR: model, verify, interp, executor, text, serde, artifact."""

from qatspec.program.model import (
    RANGE,
    STORAGE,
    Op,
    Port,
    Ported,
    Program,
    Provenance,
    Value,
)

__all__ = ["RANGE", "STORAGE", "Op", "Port", "Ported", "Program", "Provenance", "Value"]

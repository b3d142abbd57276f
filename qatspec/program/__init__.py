"""Integer IR: model, verify, interp, executor, text, serde, artifact."""

from qatspec.program.artifact import Artifact
from qatspec.program.builder import ProgramBuilder
from qatspec.program.interp import interpret, interpret_all
from qatspec.program.model import (
    RANGE,
    STORAGE,
    DType,
    Op,
    Port,
    Ported,
    Program,
    Provenance,
    Value,
)
from qatspec.program.ports import check_inputs, unflatten
from qatspec.program.serde import digest, load_program, save_program
from qatspec.program.text import dump
from qatspec.program.verify import check, verify

__all__ = [
    "RANGE",
    "STORAGE",
    "Artifact",
    "DType",
    "Op",
    "Port",
    "Ported",
    "Program",
    "ProgramBuilder",
    "Provenance",
    "Value",
    "check",
    "check_inputs",
    "digest",
    "dump",
    "interpret",
    "interpret_all",
    "load_program",
    "save_program",
    "unflatten",
    "verify",
]

"""Integer IR: model, verify, interp, executor, text, serde, artifact."""

from qatspec.program.artifact import Artifact
from qatspec.program.builder import ProgramBuilder
from qatspec.program.frame_referee import interpret_frames
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
from qatspec.program.runtime_input import RuntimeInput
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
    "RuntimeInput",
    "Value",
    "check",
    "check_inputs",
    "digest",
    "dump",
    "interpret",
    "interpret_all",
    "interpret_frames",
    "load_program",
    "save_program",
    "unflatten",
    "verify",
]

"""The integer Program: builder, verification, executor, text, files, and compiled artifacts."""

from qatspec.ir import (
    RANGE,
    STORAGE,
    DType,
    IntegerModel,
    Op,
    Port,
    Provenance,
    Value,
    check_inputs,
    unflatten,
)
from qatspec.program.artifact import Artifact
from qatspec.program.builder import ProgramBuilder
from qatspec.program.frame_referee import interpret_frames
from qatspec.program.model import Program
from qatspec.program.runtime_input import RuntimeInput
from qatspec.program.serde import digest, load_program, save_program
from qatspec.program.text import dump
from qatspec.program.verify import check, verify

__all__ = [
    "RANGE",
    "STORAGE",
    "Artifact",
    "DType",
    "IntegerModel",
    "Op",
    "Port",
    "Program",
    "ProgramBuilder",
    "Provenance",
    "RuntimeInput",
    "Value",
    "check",
    "check_inputs",
    "digest",
    "dump",
    "interpret_frames",
    "load_program",
    "save_program",
    "unflatten",
    "verify",
]

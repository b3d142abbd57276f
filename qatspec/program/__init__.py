"""The integer Program: builder, verification, executor, text, files, and compiled artifacts."""

from qatspec.ir import (
    RANGE as RANGE,
    STORAGE as STORAGE,
    DType as DType,
    IntegerModel as IntegerModel,
    Op as Op,
    Port as Port,
    Provenance as Provenance,
    Value as Value,
    check_inputs as check_inputs,
    unflatten as unflatten,
)
from qatspec.program.artifact import Artifact as Artifact
from qatspec.program.builder import ProgramBuilder as ProgramBuilder
from qatspec.program.frame_referee import interpret_frames as interpret_frames
from qatspec.program.model import Program as Program
from qatspec.program.runtime_input import RuntimeInput as RuntimeInput
from qatspec.program.serde import (
    digest as digest,
    load_program as load_program,
    save_program as save_program,
)
from qatspec.program.text import dump as dump
from qatspec.program.verify import check as check, verify as verify

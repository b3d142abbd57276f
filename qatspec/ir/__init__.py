"""The data of a Program, without anything that runs, checks or writes it."""

from qatspec.ir.data import (
    PORT_RANGE,
    PORT_STORAGE,
    RANGE,
    STORAGE,
    DType,
    IntegerModel,
    Op,
    Port,
    ProgramData,
    Provenance,
    Value,
)
from qatspec.ir.interval import EXACT32, EXACT64, Interval, Overflow, interval, within_int32
from qatspec.ir.ports import (
    CONSTANT,
    HOST,
    check_inputs,
    is_constant,
    on_host,
    outputs_of,
    renumbered,
    unflatten,
)

__all__ = [
    "CONSTANT",
    "EXACT32",
    "EXACT64",
    "HOST",
    "PORT_RANGE",
    "PORT_STORAGE",
    "RANGE",
    "STORAGE",
    "DType",
    "IntegerModel",
    "Interval",
    "Op",
    "Overflow",
    "Port",
    "ProgramData",
    "Provenance",
    "Value",
    "check_inputs",
    "interval",
    "is_constant",
    "on_host",
    "outputs_of",
    "renumbered",
    "unflatten",
    "within_int32",
]

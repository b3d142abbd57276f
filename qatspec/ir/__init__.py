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
from qatspec.ir.ports import HOST, check_inputs, on_host, unflatten

__all__ = [
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
    "on_host",
    "unflatten",
    "within_int32",
]

"""The data of a Program, without anything that runs, checks or writes it."""

from qatspec.ir.data import (
    RANGE as RANGE,
    STORAGE as STORAGE,
    DType as DType,
    IntegerModel as IntegerModel,
    Op as Op,
    Port as Port,
    ProgramData as ProgramData,
    Provenance as Provenance,
    Value as Value,
)
from qatspec.ir.interval import (
    EXACT32 as EXACT32,
    EXACT64 as EXACT64,
    Interval as Interval,
    Overflow as Overflow,
    interval as interval,
    within_int32 as within_int32,
)
from qatspec.ir.ports import (
    ATTRIBUTES as ATTRIBUTES,
    CONSTANT as CONSTANT,
    HOST as HOST,
    NAMED_TUPLE as NAMED_TUPLE,
    ORDERED as ORDERED,
    Attributes as Attributes,
    check_inputs as check_inputs,
    in_order as in_order,
    is_constant as is_constant,
    on_host as on_host,
    outputs_of as outputs_of,
    renumbered as renumbered,
    unflatten as unflatten,
)

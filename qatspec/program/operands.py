"""What an op may be asked for: its attributes and operands, each read with its bounds. Files are
hostile: an attribute may be anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qatspec.program.model import DType, Op, Value

#: dtype and shape of an op's result.
Result = tuple[DType, tuple[int, ...]]

ROUNDINGS = ("half_up", "half_even", "floor")
#: Largest shift: half of 2^shift stays far below 2^53, where float64 stops being exact.
MAX_SHIFT = 50

SMALL = ("int4", "int8", "int16")

#: Bound of an int attribute and of the elements a value holds (per batch item): what keeps a
#: hostile file from asking for terabytes.
LIMIT = 1 << 28


class Malformed(ValueError):
    """An op breaks its kind's rules; the message says which."""


def take_int(op: Op, name: str, low: int, high: int = LIMIT) -> int:
    """An attribute that is an integer. Raises Malformed, as all here."""
    value = op.attrs.get(name)
    if type(value) is not int or not low <= value <= high:
        raise Malformed(f"attribute `{name}` must be an integer in [{low}, {high}], is {value!r}")
    return value


def take_ints(op: Op, name: str, count: int | None, low: int, high: int = LIMIT) -> tuple[int, ...]:
    """An attribute that is `count` integers, any number where it is None."""
    value = op.attrs.get(name)
    if (
        not isinstance(value, (tuple, list))
        or (count is not None and len(value) != count)
        or any(type(v) is not int or not low <= v <= high for v in value)
    ):
        size = "" if count is None else f"{count} "
        raise Malformed(f"attribute `{name}` must be {size}integers in [{low}, {high}]")
    return tuple(value)


def take_bool(op: Op, name: str) -> bool:
    """An attribute that is true or false."""
    value = op.attrs.get(name)
    if type(value) is not bool:
        raise Malformed(f"attribute `{name}` must be true or false, is {value!r}")
    return value


def take_word(op: Op, name: str, words: Sequence[str]) -> str:
    """An attribute that is one of `words`."""
    value = op.attrs.get(name)
    if not isinstance(value, str) or value not in words:
        raise Malformed(f"attribute `{name}` must be one of {', '.join(words)}, is {value!r}")
    return value


def need_count(inputs: list[Value], low: int, high: int) -> None:
    """There must be `low` to `high` operands."""
    if not low <= len(inputs) <= high:
        raise Malformed(f"takes {low} to {high} operands, has {len(inputs)}")


def need_small(value: Value) -> None:
    """The operand must be of 4, 8 or 16 bits."""
    if value.dtype not in SMALL:
        raise Malformed(f"operand `{value.name}` must be one of {', '.join(SMALL)}")


def need_rank(value: Value, rank: int) -> None:
    """The operand must have so many dims behind the batch."""
    if len(value.shape) != rank:
        raise Malformed(f"operand `{value.name}` must have {rank} dims after the batch")


def need_const(value: Value, consts: Mapping[str, Any], dtypes: Sequence[str], rank: int) -> None:
    """The operand must be a constant of one of `dtypes`."""
    if value.name not in consts or value.dtype not in dtypes or len(value.shape) != rank:
        kinds = "|".join(dtypes)
        raise Malformed(f"operand `{value.name}` must be a constant {kinds} of {rank} dims")

"""The types of attributes and operands, with their ranges. Files are hostile: an attribute may hold
anything that JSON can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qatspec.ir import RANGE, Value

ROUNDINGS = ("half_up", "half_even", "floor")
#: How a requantization computes (qatspec.kinds.requantization.forms).
FORMS = ("single", "double_high", "float32")
#: Largest shift: half of 2^shift stays far below 2^53, where float64 stops being exact.
MAX_SHIFT = 50
#: dtypes of activations and weights.
SMALL = ("int4", "int8", "uint8", "int16")
BYTES = ("int4", "int8", "uint8")
WEIGHTS = ("int4", "int8", "int16")
#: Bound of an integer attribute and of the elements that a value holds (per batch item): what keeps
#: a hostile file from asking for terabytes.
LIMIT = 1 << 28

Attrs = Mapping[str, Any]


class Malformed(ValueError):
    """An op breaks its kind's rules; the message says which."""


class Attribute(ABC):
    """The type and range of one attribute."""

    @abstractmethod
    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        """Raise Malformed unless attrs[name] fits. x: the op's first operand."""


@dataclass(frozen=True, slots=True)
class Optional(Attribute):
    """An attribute that may be absent."""

    of: Attribute

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        if name in attrs:
            self.of.check(name, attrs, x)


@dataclass(frozen=True, slots=True)
class Int(Attribute):
    """An integer in [low, high]."""

    low: int
    high: int = LIMIT

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        _demand_int(name, attrs.get(name), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Ints(Attribute):
    """`count` integers in [low, high], any number of them where count is None."""

    count: int | None
    low: int
    high: int = LIMIT

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        _demand_ints(name, attrs.get(name), self.count, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Flag(Attribute):
    """True or false."""

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        value = attrs.get(name)
        if type(value) is not bool:
            raise Malformed(f"attribute `{name}` must be true or false, is {value!r}")


@dataclass(frozen=True, slots=True)
class Word(Attribute):
    """One of `words`."""

    words: tuple[str, ...]

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        value = attrs.get(name)
        if not isinstance(value, str) or value not in self.words:
            words = ", ".join(self.words)
            raise Malformed(f"attribute `{name}` must be one of {words}, is {value!r}")


@dataclass(frozen=True, slots=True)
class Axis(Attribute):
    """A dim of the first operand, counted with the batch, never the batch. A value without dims
    has the axis 1 where `scalar` allows it."""

    scalar: bool = False

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        _demand_int(name, attrs.get(name), 1, max(len(x.shape), int(self.scalar)))


@dataclass(frozen=True, slots=True)
class Axes(Attribute):
    """At least one dim of the first operand, each once, never the batch."""

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        axes = _demand_ints(name, attrs.get(name), None, 1, len(x.shape))
        if not axes or len(set(axes)) != len(axes):
            raise Malformed(
                f"attribute `{name}` must name at least one dim, each once, never the batch"
            )


@dataclass(frozen=True, slots=True)
class Permutation(Attribute):
    """A permutation of the first operand's dims that keeps the batch in front."""

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        rank = len(x.shape)
        perm = _demand_ints(name, attrs.get(name), rank + 1, 0, rank)
        if perm[0] != 0 or len(set(perm)) != len(perm):
            raise Malformed(f"attribute `{name}` must be a permutation that keeps the batch first")


@dataclass(frozen=True, slots=True)
class Level(Attribute):
    """An integer of the first operand's dtype, or of the result's (the attribute `dtype`, which is
    read before); not below the attribute `above`, if one is named."""

    above: str = ""
    of_result: bool = False

    def check(self, name: str, attrs: Attrs, x: Value) -> None:
        value = attrs.get(name)
        _demand_int(name, value, *RANGE[attrs["dtype"] if self.of_result else x.dtype])
        if self.above and attrs[self.above] > value:
            raise Malformed(f"attribute `{self.above}` is above `{name}`")


def _demand_int(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise Malformed(f"attribute `{name}` must be an integer in [{low}, {high}], is {value!r}")


def _demand_ints(name: str, value: Any, count: int | None, low: int, high: int) -> tuple[int, ...]:
    if (
        not isinstance(value, (tuple, list))
        or (count is not None and len(value) != count)
        or any(type(v) is not int or not low <= v <= high for v in value)
    ):
        size = "" if count is None else f"{count} "
        raise Malformed(f"attribute `{name}` must be {size}integers in [{low}, {high}]")
    return tuple(value)


# -- operands --------------------------------------------------------------------------------------


def demand_small(value: Value) -> None:
    """The operand must be of 4, 8 or 16 bits."""
    if value.dtype not in SMALL:
        raise Malformed(f"operand `{value.name}` must be one of {', '.join(SMALL)}")


def demand_rank(value: Value, rank: int) -> None:
    """Requires the number of dims behind the batch."""
    if len(value.shape) != rank:
        raise Malformed(f"operand `{value.name}` must have {rank} dims after the batch")


def demand_const(value: Value, consts: Mapping[str, Any], dtypes: Sequence[str], rank: int) -> None:
    """The operand must be a constant of one of `dtypes`."""
    if value.name not in consts or value.dtype not in dtypes or len(value.shape) != rank:
        kinds = "|".join(dtypes)
        raise Malformed(f"operand `{value.name}` must be a constant {kinds} of {rank} dims")


def demand_table(x: Value, table: Value, consts: Mapping[str, Any], dtype: str) -> None:
    """`table` must be a constant of `dtype` with an entry for every integer of x's dtype."""
    demand_const(table, consts, (dtype,), 1)
    low, high = RANGE[x.dtype]
    if table.shape != (high - low + 1,):
        raise Malformed(f"the table must have {high - low + 1} entries")


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of two operands of one rank, dims of 1 repeated. Raises Malformed."""
    if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise Malformed(f"shapes {a} and {b} do not broadcast")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))

"""What the values of a config are where they are not plain Python values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qatspec.diag import Span


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name of another module or of the config's own code, such as `torch.optim.SGD`."""

    text: str

    @property
    def last(self) -> str:
        """The name behind the last dot."""
        return self.text.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Unread:
    """An expression whose value only running the config would tell; text: its source."""

    text: str


class Table(dict[Any, Any]):
    """A dictionary of a config.

    span   its place; spans: key -> the place of its value.
    used   keys that the spec has taken; the others are reported at the end.
    """

    def __init__(self, span: Span) -> None:
        super().__init__()
        self.span = span
        self.spans: dict[Any, Span] = {}
        self.used: set[Any] = set()
        self._inside: set[Any] = set()

    def put(self, key: Any, value: Any, span: Span) -> None:
        """Set a value and its place."""
        self[key] = value
        self.spans[key] = span

    def take(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which counts as used; `default` where it is missing."""
        self.used.add(key)
        return self.get(key, default)

    def ignore(self, *keys: Any) -> None:
        """Count keys as used, and everything below them."""
        self.used.update(keys)
        self._inside.update(keys)

    def number(self, key: Any) -> int | float | None:
        """The value of a key where it is a number; anything else stays unused."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        self.used.add(key)
        return value

    def text(self, key: Any) -> str | None:
        """The value of a key where it is a text; anything else stays unused."""
        value = self.get(key)
        if not isinstance(value, str):
            return None
        self.used.add(key)
        return value

    def table(self, key: Any) -> Table:
        """The dictionary below a key; an empty one where there is none."""
        value = self.get(key)
        if not isinstance(value, Table):
            return Table(self.span)
        self.used.add(key)
        return value

    @property
    def type(self) -> str:
        """What `type` names: a registered name, or the last part of a class's."""
        value = self.take("type")
        return value.last if isinstance(value, Symbol) else value if isinstance(value, str) else ""

    def unused(self, path: str) -> Iterator[tuple[str, Any, Span]]:
        """Path, value and place of what was not taken; a table that was not is one entry."""
        for key, value in self.items():
            name = key.text if isinstance(key, Symbol) else str(key)
            here = f"{path}.{name}" if path else name
            if key in self._inside:
                continue
            if key not in self.used:
                yield here, value, self.spans.get(key, self.span)
            elif isinstance(value, Table):
                yield from value.unused(here)
            elif isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    if isinstance(item, Table) and item.used:
                        yield from item.unused(f"{here}[{index}]")


def tables(value: Any) -> list[Table]:
    """The dictionaries of a list, or of one that stands alone."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, Table)]

"""First fit: addresses for pieces of memory that live from one stage to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes needed from stage `first` to stage `last`, both included."""

    size: int
    first: int
    last: int


def first_fit(pieces: Sequence[Piece]) -> tuple[list[int], int]:
    """An address for each piece, such that pieces alive at one time never overlap, and the bytes
    used in all. Large pieces first, each at the lowest address that is free for its life."""
    memory = Memory()
    addresses = [0] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-pieces[i].size, pieces[i].first, i))
    for i in order:
        addresses[i] = memory.add(pieces[i])
    return addresses, memory.used


class Memory:
    """Pieces and their addresses, by number in the order in which they were added."""

    def __init__(self) -> None:
        self._rows = np.zeros((64, 4), np.int64)  # address, end, first, last
        self._count = 0

    def add(self, piece: Piece) -> int:
        """Place a piece at the lowest address that is free for its life; returns the address."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        address = self._lowest(piece, -1)
        self._rows[self._count] = address, address + piece.size, piece.first, piece.last
        self._count += 1
        return address

    @property
    def used(self) -> int:
        """The end of the piece that ends last."""
        return int(self._rows[: self._count, 1].max(initial=0))

    def earlier(self, number: int, least: int, budget: int) -> tuple[int, int]:
        """Let a piece live from as early on as it can, from `least` on, at any address within
        `budget`. Returns its address and the first stage of its life."""
        address, end, first, last = (int(x) for x in self._rows[number])
        low, high = min(least, first), first  # at `high` it fits; a longer life fits no better
        while low < high:
            middle = (low + high) // 2
            longer = Piece(end - address, middle, last)
            start = self._lowest(longer, number)
            if start + longer.size <= budget:
                high = middle
                self._rows[number] = start, start + longer.size, middle, last
            else:
                low = middle + 1
        return int(self._rows[number, 0]), high

    def _lowest(self, piece: Piece, number: int) -> int:
        """The lowest address that is free for the life of `piece`, which has `number` here."""
        rows = self._rows[: self._count]
        alive = (rows[:, 2] <= piece.last) & (rows[:, 3] >= piece.first)
        if number >= 0:
            alive[number] = False
        address = 0
        for start, end in sorted(rows[alive, :2].tolist()):
            if start - address >= piece.size:
                break
            address = max(address, end)
        return address

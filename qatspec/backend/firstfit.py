"""First fit: addresses for pieces of memory that live from one stage to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes needed from stage `first` to stage `last`, both included."""

    size: int
    first: int
    last: int


def first_fit(pieces: Sequence[Piece]) -> tuple[list[int], int]:
    """An address for each piece, such that pieces alive at one time never overlap, and the bytes
    used in all. Large pieces first, each at the lowest address that is free for its life."""
    placed: list[tuple[int, Piece]] = []
    addresses = [0] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-pieces[i].size, pieces[i].first, i))
    for i in order:
        addresses[i] = _lowest(pieces[i], placed)
        placed.append((addresses[i], pieces[i]))
    used = max((a + p.size for a, p in zip(addresses, pieces, strict=True)), default=0)
    return addresses, used


def _lowest(piece: Piece, placed: Sequence[tuple[int, Piece]]) -> int:
    """The lowest address that is free for the life of `piece`."""
    taken = sorted(
        (start, start + other.size)
        for start, other in placed
        if other.first <= piece.last and piece.first <= other.last
    )
    address = 0
    for start, end in taken:
        if start - address >= piece.size:
            break
        address = max(address, end)
    return address


def earlier(
    pieces: list[Piece], addresses: list[int], movable: Sequence[int], budget: int, most: int
) -> list[int]:
    """Let the `movable` pieces live from up to `most` stages earlier, where that takes no more than
    `budget` bytes. None starts before one that stands before it in `movable`: they are loaded in
    this order. Changes pieces and addresses; returns the first stage of each piece."""
    floor = 0
    for i in movable:
        others = [(a, p) for j, (a, p) in enumerate(zip(addresses, pieces, strict=True)) if j != i]
        piece = pieces[i]
        near = [(a, p) for a, p in others if p.first <= piece.last and piece.first - most <= p.last]
        for first in range(piece.first - 1, max(floor, piece.first - most) - 1, -1):
            longer = Piece(piece.size, first, piece.last)
            address = _lowest(longer, near)
            if address + piece.size > budget:
                break
            pieces[i], addresses[i] = longer, address
        floor = max(floor, pieces[i].first)
    return [piece.first for piece in pieces]

"""JSON pointers (RFC 6901), the addresses of values in a document."""

from __future__ import annotations


def join(pointer: str, *keys: str | int) -> str:
    """`join("/a", "b/c", 0)` is "/a/b~1c/0"."""
    return pointer + "".join("/" + str(k).replace("~", "~0").replace("/", "~1") for k in keys)


def split(pointer: str) -> list[str]:
    """The keys of a pointer, unescaped; [] for the whole document."""
    return [k.replace("~1", "/").replace("~0", "~") for k in pointer.split("/")[1:]]


def parent(pointer: str) -> str:
    """The pointer of the collection that holds `pointer`; "" for the top."""
    return pointer.rpartition("/")[0]

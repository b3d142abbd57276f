"""Files of qatspec's own: magic, version, a JSON header, sections of bytes, and a closing sha256.

    magic (6 bytes) | version u16 | header length u64 | header JSON | sections | sha256

All numbers little endian; the closing sha256 is of everything before it. The header's "sections"
lists [name, length, sha256] in file order.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from typing import Any

from qatspec import files
from qatspec.diag import Code, DiagnosticError, Span

_HEAD = struct.Struct("<6sHQ")
_DIGEST = hashlib.sha256().digest_size
#: A header is text about a file; nothing honest comes near this.
_MAX_HEADER = 1 << 28
#: Protobuf, and so an ONNX file without external data, ends here; Programs hold the same weights.
MAX_BYTES = 1 << 31


class Damaged(ValueError):
    """The bytes are not what they should be; the message says where."""


def pack(
    magic: bytes, version: int, header: Mapping[str, Any], sections: Mapping[str, bytes]
) -> bytes:
    """Return the bytes of a file with header, sections and checksum, the same for one input."""
    listed = [[n, len(data), hashlib.sha256(data).hexdigest()] for n, data in sections.items()]
    text = json.dumps(
        {**header, "sections": listed}, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
    body = b"".join((_HEAD.pack(magic, version, len(text)), text, *sections.values()))
    return body + hashlib.sha256(body).digest()


def unpack(magic: bytes, version: int, data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(header with its "sections", sections by name). Raises Damaged, whatever the bytes."""
    if len(data) < _HEAD.size + _DIGEST or not data.startswith(magic):
        raise Damaged("it does not start as such a file does")
    _, file_version, length = _HEAD.unpack_from(data)
    if file_version != version:
        raise Damaged(
            f"it has format {file_version}, this version of qatspec reads format {version}"
        )
    end = len(data) - _DIGEST
    if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise Damaged("its closing sha256 does not match: it was cut or changed")
    if length > min(_MAX_HEADER, end - _HEAD.size):
        raise Damaged("its header is longer than the file")
    at = _HEAD.size + length
    try:
        header = files.parse_json(data[_HEAD.size : at].decode())
    except ValueError as problem:
        raise Damaged("its header is not JSON") from problem
    if not isinstance(header, dict) or not isinstance(header.get("sections"), list):
        raise Damaged("its header lists no sections")
    sections: dict[str, bytes] = {}
    for entry in header["sections"]:
        name, size, digest = _entry(entry)
        if name in sections or size > end - at:
            raise Damaged(f"section {name!r} is listed twice or longer than the file")
        sections[name] = data[at : at + size]
        at += size
        if hashlib.sha256(sections[name]).hexdigest() != digest:
            raise Damaged(f"section {name!r} does not match its sha256")
    if at != end:
        raise Damaged("it holds bytes that no section lists")
    return header, sections


def _entry(entry: Any) -> tuple[str, int, str]:
    if isinstance(entry, list) and len(entry) == 3:
        name, size, digest = entry
        if isinstance(name, str) and type(size) is int and size >= 0 and isinstance(digest, str):
            return name, size, digest
    raise Damaged("its header's list of sections is broken")


def read_file(path: str | os.PathLike[str], code: Code, what: str) -> bytes:
    """The file's bytes. Raises DiagnosticError with `code` where it cannot be read."""
    try:
        return files.read_file(path, MAX_BYTES)
    except OSError as problem:
        raise refusal(path, code, what, files.why_unreadable(problem)) from problem


def refusal(path: str | os.PathLike[str], code: Code, what: str, why: object) -> DiagnosticError:
    """The diagnostic for a file that is not a good `what`."""
    return code.error(
        f"not a readable {what}: {why}",
        help="make it again with `qatspec convert`, or copy it again",
        span=Span(os.fspath(path)),
    )

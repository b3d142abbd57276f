"""The integrity of ONNX files that qatspec writes: a digest of the bytes, as the last metadata.

A protobuf message may be appended to another of its type, and repeated fields are then joined. The
digest is therefore appended as a model that holds one metadata entry alone: every tool reads the
file as before, and the bytes before the entry are exactly what the digest is of.
"""

from __future__ import annotations

import hashlib

import onnx

KEY = "qatspec.sha256"


def sealed(data: bytes) -> bytes:
    """The serialized model `data` with the entry of its digest behind it."""
    return data + _entry(data)


def demand_intact(data: bytes) -> None:
    """Raise ValueError unless `data` ends with the digest of what precedes it."""
    end = len(data) - len(_entry(b""))
    if end < 0 or KEY.encode() not in data[end:]:
        raise ValueError(
            "it does not end with its sha256: it was cut, or written by another tool or by an "
            "earlier version of qatspec"
        )
    if data[end:] != _entry(data[:end]):
        raise ValueError("its sha256 does not match: it was changed after it was written")


def _entry(data: bytes) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    entry = onnx.StringStringEntryProto(key=KEY, value=digest)
    return bytes(onnx.ModelProto(metadata_props=[entry]).SerializeToString(deterministic=True))

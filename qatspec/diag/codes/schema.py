"""QS2xx: the shape of a spec."""

from __future__ import annotations

from qatspec.diag.model import Code

QS201 = Code("QS201", "unknown key")
QS202 = Code("QS202", "a key is missing")
QS203 = Code("QS203", "a value of the wrong type")
QS204 = Code("QS204", "a value that is not one of the choices")
QS205 = Code("QS205", "a value out of range")
QS206 = Code("QS206", "keys that exclude each other")
QS207 = Code("QS207", "a version of the spec language that this qatspec does not read")
QS208 = Code("QS208", "exactly one of several keys")

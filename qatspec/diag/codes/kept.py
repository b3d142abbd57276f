"""Codes of results that an earlier run left in the work directory."""

from __future__ import annotations

from qatspec.diag.model import Code

QS930 = Code("QS930", "a result of other settings than the spec has")
QS931 = Code("QS931", "a damaged file of a finished stage")
QS932 = Code("QS932", "the oldest unfinished training is removed from .kept")
QS933 = Code("QS933", "no checkpoint of an interrupted training is intact")
QS935 = Code("QS935", "a record of another version of qatspec")
QS936 = Code("QS936", "kept epochs are missing")
QS937 = Code("QS937", "the run will not fit on the disk")

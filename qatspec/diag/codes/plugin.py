"""QS0xx: plugins and their faults."""

from __future__ import annotations

from qatspec.diag.model import Code

QS001 = Code("QS001", "a plugin cannot be loaded")
QS002 = Code("QS002", "two plugins register one name")
QS003 = Code("QS003", "a plugin implements a hook that does not exist")
QS004 = Code("QS004", "a plugin raised in a hook")
QS005 = Code("QS005", "a plugin returned something that is not a record")
QS006 = Code("QS006", "the spec loads code, which was not allowed")
QS007 = Code("QS007", "a file plugin cannot be loaded")
QS008 = Code("QS008", "a plugin's own check")
QS009 = Code("QS009", "a plugin is written for another version of the plugin API")
QS010 = Code("QS010", "a model or data set of a plugin breaks its interface")

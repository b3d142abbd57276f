"""QS1xx: YAML text."""

from __future__ import annotations

from qatspec.diag.model import Code

QS101 = Code("QS101", "a file cannot be read")
QS102 = Code("QS102", "not valid YAML")
QS103 = Code("QS103", "a key appears twice in one mapping")
QS104 = Code("QS104", "the file is not UTF-8 text")
QS105 = Code("QS105", "a tab in the indentation")
QS106 = Code("QS106", "an unresolved merge conflict")
QS107 = Code("QS107", "the spec grows too large")
QS108 = Code("QS108", "nested too deep")
QS109 = Code("QS109", "the file is too large")
QS110 = Code("QS110", "YAML that specs do not use")
QS111 = Code("QS111", "a spec is a mapping")
QS112 = Code("QS112", "a control character in the text")
QS113 = Code("QS113", "not a finite number")
QS114 = Code("QS114", "a file cannot be fixed")
QS115 = Code("QS115", "`extends` names a file that is not a spec")

"""QS97x: configs of Horizon's HAT that become specs."""

from __future__ import annotations

from qatspec.diag.model import Code

QS970 = Code("QS970", "a file that is not read as a config of HAT")
QS971 = Code("QS971", "a part of a config of HAT that is not carried into the spec")
QS972 = Code("QS972", "a place of a config of HAT that was corrected to be read")

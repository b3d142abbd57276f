"""QS950, QS951, QS958, QS959, QS965: pictures and what is annotated on them."""

from __future__ import annotations

from qatspec.diag.model import Code

QS950 = Code("QS950", "a picture has another size than its annotations state")
QS951 = Code("QS951", "a rotation tag is ignored")
QS958 = Code("QS958", "a label file has a fault")
QS959 = Code("QS959", "pictures have no label file")
QS965 = Code("QS965", "pictures are in the data of training and of validation")

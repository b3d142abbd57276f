"""QS3xx: names, references and rules."""

from __future__ import annotations

from qatspec.diag.model import Code

QS301 = Code("QS301", "an unknown name")
QS302 = Code("QS302", "a reference to a variable that is not there")
QS303 = Code("QS303", "an environment variable is not set")
QS304 = Code("QS304", "a malformed reference")
QS305 = Code("QS305", "references go in a circle")
QS306 = Code("QS306", "a --set that cannot be applied")
QS307 = Code("QS307", "files extend each other in a circle")
QS308 = Code("QS308", "a name that torch does not have")
QS309 = Code("QS309", "a chip's name where a march belongs")
QS310 = Code("QS310", "not a valid regular expression")
QS311 = Code("QS311", "a regular expression that may never end")
QS312 = Code("QS312", "a rule that matches nothing")
QS313 = Code("QS313", "a rule that can never win")
QS314 = Code("QS314", "two rules that contend for an op")

"""The diagnostic codes: one module per block of numbers, and each code's page beside it
(`QS505.md`, shown by `qatspec explain QS505`).

    from qatspec.diag.codes import QS505
    raise QS505.error(f"no module is called `{path}`", help="...", at="/prepare")

`.error` returns a DiagnosticError, `.warning` and `.diagnostic` a Diagnostic to be collected.
"""

from __future__ import annotations

from qatspec.diag.codes.ahead import *
from qatspec.diag.codes.data import *
from qatspec.diag.codes.graph import *
from qatspec.diag.codes.hat import *
from qatspec.diag.codes.image import *
from qatspec.diag.codes.kept import *
from qatspec.diag.codes.lower import *
from qatspec.diag.codes.march import *
from qatspec.diag.codes.names import *
from qatspec.diag.codes.numbers import *
from qatspec.diag.codes.objects import *
from qatspec.diag.codes.plan import *
from qatspec.diag.codes.plugin import *
from qatspec.diag.codes.process import *
from qatspec.diag.codes.quant import *
from qatspec.diag.codes.run import *
from qatspec.diag.codes.schema import *
from qatspec.diag.codes.training import *
from qatspec.diag.codes.yaml import *
from qatspec.diag.model import Code

#: Every code by its text.
CODES: dict[str, Code] = {
    str(code): code for _, code in sorted(globals().items()) if isinstance(code, Code)
}

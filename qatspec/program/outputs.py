"""Describe the outputs of a Program for on-board post-processing, as JSON and as a C header.

real = integer * scale of its channel. Scales are float32 to the last bit: JSON has the shortest
decimal that reads back as the same double, C has hexadecimal floats (C99, C++17).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from qatspec.files import encoded
from qatspec.ir import STORAGE, Port
from qatspec.program.artifact import port_record
from qatspec.program.model import Program
from qatspec.program.serde import digest

FORMAT = 1
#: scales on one line of the header
_PER_LINE = 4


def outputs_record(program: Program) -> dict[str, Any]:
    """The output ports in order, as JSON. tree: how they nest in what the model's
    forward gives, with its constants as {"$constant": value}."""
    return {
        "format": FORMAT,
        "name": program.name,
        "march": program.march,
        "program": digest(program),
        "dequantize": "real = integer * scale; one scale, or one an index of dimension `axis`, "
        "counted with the batch",
        "outputs": [port_record(port) for port in program.outputs],
        "tree": program.tree,
    }


def outputs_header(program: Program) -> str:
    """The output ports as C constants, in order: one table `<name>_outputs`."""
    prefix = identifier(program.name)
    guard = f"{prefix.upper()}_OUTPUTS_H"
    count = len(program.outputs)
    lines = [
        f"/* Outputs of {_comment(program.name)} (march {_comment(str(program.march))}), in order.",
        f" * Program {digest(program)}.",
        " * real = integer * scale[i], i being 0 or the index along `axis`; zero points are 0. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        f"#define {prefix.upper()}_OUTPUT_COUNT {count}",
        "",
        "typedef struct {",
        "    const char *name;",
        "    const char *layout;   /* the batch N first */",
        "    int bytes;            /* of one signed integer */",
        "    int rank;             /* dimensions, without the batch */",
        "    const int32_t *shape; /* without the batch */",
        "    int axis;             /* dimension of the scales, counted with the batch; -1: one */",
        "    int scales;",
        "    const float *scale;",
        f"}} {prefix}_output;",
        "",
    ]
    for i, port in enumerate(program.outputs):
        lines += _arrays(f"{prefix}_output_{i}", port)
    lines.append(
        f"static const {prefix}_output {prefix}_outputs[{prefix.upper()}_OUTPUT_COUNT] = {{"
    )
    lines += [f"    {_row(f'{prefix}_output_{i}', p)}," for i, p in enumerate(program.outputs)]
    return "\n".join([*lines, "};", "", f"#endif /* {guard} */", ""])


def identifier(name: str) -> str:
    """`name` as a C identifier."""
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return f"m{plain}" if not plain or not plain[0].isalpha() else plain


def _arrays(name: str, port: Port) -> Iterator[str]:
    shape = ", ".join(map(str, port.shape)) or "1"
    yield f"static const int32_t {name}_shape[] = {{{shape}}};"
    yield f"static const float {name}_scale[] = {{"
    scales = [_float(v) for v in port.scale]
    for start in range(0, len(scales), _PER_LINE):
        yield "    " + " ".join(f"{v}," for v in scales[start : start + _PER_LINE])
    yield "};"


def _row(name: str, port: Port) -> str:
    fields = (
        _string(port.name),
        _string(port.layout),
        np.dtype(STORAGE[port.dtype]).itemsize,
        len(port.shape),
        f"{name}_shape",
        -1 if port.axis is None else port.axis,
        port.scale.size,
        f"{name}_scale",
    )
    return "{" + ", ".join(map(str, fields)) + "}"


def _float(value: np.float32) -> str:
    """A float32 as a C99 hexadecimal constant: exact whatever the compiler's rounding."""
    mantissa, _, exponent = float(value).hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}f"


def _string(text: str) -> str:
    """A C string literal; what is not printable ASCII as three octal digits a byte."""
    plain = (
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in encoded(text)
    )
    return '"' + "".join(plain) + '"'


def _comment(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /")

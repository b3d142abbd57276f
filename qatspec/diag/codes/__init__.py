"""The table of diagnostic codes: one module a block, a page a code (`qatspec explain QS201`)."""

from __future__ import annotations

from qatspec.diag.codes import (
    ahead,
    data,
    graph,
    image,
    kept,
    lower,
    march,
    names,
    numbers,
    objects,
    plan,
    plugin,
    process,
    quant,
    run,
    schema,
    yaml,
)
from qatspec.diag.codes.code import Code

CODES: dict[str, Code] = {
    code.id: code
    for block in (
        plugin,
        yaml,
        schema,
        names,
        plan,
        graph,
        objects,
        quant,
        numbers,
        image,
        lower,
        march,
        run,
        kept,
        data,
        ahead,
        process,
    )
    for code in block.CODES
}

__all__ = ["CODES", "Code"]

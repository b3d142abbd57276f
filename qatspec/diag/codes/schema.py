"""QS2xx: the shape of a spec."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS201",
        "unknown key",
        """\
The mapping does not take this key. A misspelt key that is silently ignored is the most expensive
mistake in training: the run ends, and the setting never was in force. So every mapping is closed.

**Mend.** The help names the nearest key, or all that are allowed. `qatspec schema` writes the JSON
Schema that completes keys in your editor.

**Example.** `quantise_input: false` -> `quantize_input: false`.
""",
    ),
    Code(
        "QS202",
        "a key is missing",
        """\
The mapping needs a key that has no default.

**Mend.** Add it; the message names it, `qatspec schema` describes it.
""",
    ),
    Code(
        "QS203",
        "a value of the wrong type",
        """\
The value's type is not what the key takes. Scalars are read as in YAML 1.2: `1e-4` is a number,
`on`, `yes` and `no` are texts, `010` is ten, `"8"` in quotes is a text.

**Mend.** Write the type that the message names: numbers and `true`/`false` without quotes, lists
as `[a, b]`.
""",
    ),
    Code(
        "QS204",
        "a value that is not one of the choices",
        """\
The key takes one of a closed set of values.

**Mend.** The help names the nearest choice, or all of them.
""",
    ),
    Code(
        "QS205",
        "a value out of range",
        """\
The type is right, the value is not: below the least, above the greatest, a list too short or too
long, a text of the wrong form.

**Mend.** The message states the bound.
""",
    ),
    Code(
        "QS206",
        "keys that exclude each other",
        """\
Two keys of one mapping contradict. `quantize.modules` says that single modules are prepared, so
the model around them is not, and `qconfig`, `prepare`, `quantize_input` and `quantize_output`
beside it would have nothing to act on.

**Mend.** Move the keys into each module below `modules`, or drop `modules`.
""",
    ),
    Code(
        "QS207",
        "a version of the spec language that this qatspec does not read",
        """\
The first key of a spec, `qatspec: 1`, is the version of the language. This qatspec reads version
1.

**Mend.** A higher number needs a newer qatspec: `pip install -U qatspec`.
""",
    ),
    Code(
        "QS208",
        "exactly one of several keys",
        """\
The mapping needs one of the keys in the message: none leaves the length of the stage open, two
contradict.

**Mend.** Keep the one that you mean.

**Example.** A trainer has either `epochs` or `steps`.
""",
    ),
)

"""Plain scalars by the core schema of YAML 1.2 (section 10.3.2).

PyYAML reads YAML 1.1, where `1e-4` is a text, `on` is true, `1:30` is ninety and `010` is eight.
"""

from __future__ import annotations

import json
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC_START = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_DIGITS_MAX = 400  # beyond the range of a float; also bounds int()'s quadratic cost


def written(text: str) -> str:
    """A text as YAML: plain where that reads back as the same text, else in double quotes."""
    plain = _PLAIN.fullmatch(text) and resolve(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises OverflowError for a number that is not finite."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    if _FLOAT.fullmatch(text) or _HEX.fullmatch(text) or _OCT.fullmatch(text):
        if len(text) > _DIGITS_MAX:
            raise OverflowError(text)
        if _INT.fullmatch(text) or text[:2] in ("0x", "0o"):
            number = int(text) if _INT.fullmatch(text) else int(text, 0)
            float(number)  # raises beyond its range: what computes with it would
            return number
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise OverflowError(text)
        return value
    if _NOT_FINITE.fullmatch(text):
        raise OverflowError(text)
    return text

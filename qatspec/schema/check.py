"""Data against a JSON Schema, as diagnostics at the key or value that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators

from qatspec.diag import Diagnostic, Fix
from qatspec.diag.codes import QS202, QS203, QS204, QS205, QS207
from qatspec.diag.words import nearest, quote_list, sure_correction
from qatspec.schema.unknown import unknown_keys
from qatspec.schema.walk import facets, property_schemas
from qatspec.source import scalars
from qatspec.source.pointer import join, split
from qatspec.source.tree import kind_of
from qatspec.source.write import flow
from qatspec.types import JSONSchema

#: Booleans of YAML 1.1, and texts that look like booleans.
_BOOLEANS = {
    **dict.fromkeys(("on", "yes", "y", "true"), "true"),
    **dict.fromkeys(("off", "no", "n", "false"), "false"),
}
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def _matches_to_the_end(
    _: Any, pattern: str, value: Any, __: JSONSchema
) -> Iterator[ValidationError]:
    """`pattern` as JSON Schema means it: `$` is the end of the text, and not also the place before
    a last line feed, as it is in Python."""
    if isinstance(value, str) and not re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": _matches_to_the_end}
)


def check(data: Any, schema: JSONSchema, at: str = "") -> list[Diagnostic]:
    """Everything in `data` that `schema` refuses; pointers begin with `at`.

    Each finding stands by itself: what follows from another one is left out.
    """
    diagnostics: dict[tuple[str | None, str, str], Diagnostic] = {}
    for error in _Validator(dict(schema)).iter_errors(data):
        for diagnostic in _convert(error, schema, at):
            diagnostics.setdefault((diagnostic.at, diagnostic.code, diagnostic.message), diagnostic)
    return list(diagnostics.values())


def _convert(error: ValidationError, schema: JSONSchema, base: str) -> Iterator[Diagnostic]:
    at = join(base, *error.absolute_path)
    name = _name(at)
    value, wanted = cast("Any", error.instance), cast("Any", error.validator_value)
    match error.validator:
        case "additionalProperties" | "unevaluatedProperties":
            yield from unknown_keys(error, schema, at)
        case "required":
            for key in wanted:
                if key not in value and not _misspelt(key, error, schema):
                    yield QS202.diagnostic(
                        (f"`{name}`" if at else name) + f" lacks the key `{key}`",
                        help=_how_to_add(key, error, schema),
                        at=at,
                        key=True,
                        fix=_version(key, at),
                    )
        case "type":
            yield _wrong_type(name, value, wanted, at, error.schema, schema)
        case "enum" | "const":
            yield _not_a_choice(name, value, wanted, at)
        case "dependentRequired":
            yield QS202.diagnostic(error.message, at=at, key=True)
        case _:
            message, advice = _out_of_range(name, error)
            yield QS205.diagnostic(message, help=advice, at=at)


def _name(at: str) -> str:
    """How a value is called: by its key, and an entry of a list by the key of the list as well."""
    *above, last = split(at) if at else ["the spec"]
    return f"{above[-1]}[{last}]" if above and last.isdecimal() else last


def _pair(name: str, value: object) -> str:
    """How a value is written: behind its key, or alone as the entry of a list."""
    return str(value) if re.search(r"\[\d+\]$", name) else f"{name}: {value}"


def _misspelt(key: str, error: ValidationError, root: JSONSchema) -> bool:
    """Return whether a missing required key appears as a misspelt unknown key."""
    value = cast("Mapping[str, Any]", error.instance)
    closed = any(f.get("additionalProperties") is False for f in facets(error.schema, value, root))
    known = property_schemas(error.schema, value, root)
    return closed and any(k not in known and nearest(k, [key]) for k in value)


def _version(key: str, at: str) -> Fix | None:
    """The one key that has one value."""
    return Fix("`qatspec: 1` added", line="qatspec: 1") if (key, at) == ("qatspec", "") else None


def _how_to_add(key: str, error: ValidationError, root: JSONSchema) -> str:
    part = property_schemas(error.schema, error.instance, root).get(key, {})
    written = example(part, root)
    for facet in facets(part, None, root):
        words = re.split(r"[.:;](?:\s|$)", str(facet.get("description", "")))[0]
        if words:
            return f"add `{key}: {written}` ({words[0].lower()}{words[1:]})"
    return f"add `{key}: {written}`"


def example(part: Any, root: JSONSchema) -> str:
    """A value that `part` accepts, written as YAML; `...` where none can be derived."""
    for keyword in ("examples", "default", "const", "enum"):
        for facet in facets(part, None, root):
            if keyword in facet:
                value = facet[keyword]
                return flow(value[0] if keyword in ("examples", "enum") else value)
    for facet in facets(part, None, root):
        match facet.get("type"):
            case "integer":
                return str(max(1, facet.get("minimum", 1)))
            case "boolean":
                return "true"
    return "..."


def _wrong_type(
    name: str, value: Any, wanted: Any, at: str, part: Any, root: JSONSchema
) -> Diagnostic:
    types: list[str] = [wanted] if isinstance(wanted, str) else list(wanted)
    expected = " or ".join(_TYPES[t] for t in types)
    sample = _sample(value, types, part, root)
    advice = f"write {expected}" + (f", such as `{_pair(name, sample)}`" if sample else "")
    corrected = None
    if isinstance(value, str):
        if {"number", "integer"} & set(types) and _is_number(value):
            advice = f"write it without quotes: `{value}`"
            is_integer = isinstance(scalars.resolve(value), int)
            corrected = value if is_integer or "number" in types else None
        elif "boolean" in types and value.lower() in _BOOLEANS:
            corrected = _BOOLEANS[value.lower()]
            advice = f"write `{corrected}`"
    elif "string" in types and not isinstance(value, Mapping | list) and value is not None:
        advice = f'put it in quotes: `"{_shown(value)}"`'
    elif value is None and (sample is None or "default" in part):
        advice += ", or delete the key"
    got = kind_of(value)
    if not isinstance(value, Mapping | list) and value is not None:
        got = f"the {got.split()[1]} `{_shown(value)}`"
    message = f"`{name}` must be {expected}, not {got}"
    return QS203.diagnostic(message, help=advice, at=at, fix=_fix(value, corrected))


def _sample(value: Any, types: list[str], part: Any, root: JSONSchema) -> str | None:
    """A value of the right type, made from the wrong one where that says what was meant."""
    if "array" in types and not isinstance(value, Mapping) and value is not None:
        return _as_list(value, part, root)
    if "object" in types and not part.get("required"):
        return "{}"
    if "object" in types and isinstance(value, str) and _is_type(value, part, root):
        return flow({"type": value})
    if "integer" in types and isinstance(value, float):
        return str(round(value))
    shown = example(part, root)
    return None if shown == "..." else shown


def _is_type(text: str, part: Any, root: JSONSchema) -> bool:
    """Return whether a mapping of this kind is complete with the text as its `type`."""
    kinds = property_schemas(part, {}, root).get("type", {}).get("enum", ())
    needed = {key for f in facets(part, {"type": text}, root) for key in f.get("required", ())}
    return text in kinds and needed == {"type"}


def _as_list(value: Any, part: Any, root: JSONSchema) -> str | None:
    """A list of the one entry that was written, or of the numbers in a text such as `128x128`."""
    least = max(1, part.get("minItems", 1))
    items = [facet.get("type", ()) for facet in facets(part.get("items", {}), None, root)]
    types = {one for kind in items for one in ([kind] if isinstance(kind, str) else kind)}
    if not isinstance(value, str) or "string" in types or not types & {"integer", "number"}:
        return flow([value] * least)
    numbers = [scalars.resolve(number) for number in re.findall(r"\d+(?:\.\d+)?", value)]
    fits = least <= len(numbers) <= part.get("maxItems", len(numbers))
    return flow(numbers) if fits else None


def _fix(value: Any, text: str | None) -> Fix | None:
    return Fix(f"`{_shown(value)}` -> `{text}`", text=text) if text is not None else None


def _not_a_choice(name: str, value: Any, wanted: Any, at: str) -> Diagnostic:
    if name == "qatspec" and value == str(wanted):
        message = f"`qatspec` must be the number {wanted}, not the text `{value}`"
        advice = f"write it without quotes: `{wanted}`"
        fix = _fix(value, str(wanted))
        return QS203.diagnostic(message, help=advice, at=at, fix=fix)
    if name == "qatspec":
        return QS207.diagnostic(
            f"version {_shown(value)} of the spec language is not known",
            help=f"write `qatspec: {_shown(wanted)}`, the version that this qatspec reads",
            at=at,
        )
    choices = [_shown(c) for c in (wanted if isinstance(wanted, list) else [wanted])]
    message = f"`{name}` cannot be `{_shown(value)}`"
    advice = f"write one of {quote_list(choices)}"
    sure = None
    if isinstance(value, str) and (near := nearest(value, choices)):
        advice = f"did you mean `{near}`? {advice.removeprefix('write ')}"
        sure = sure_correction(value, [c for c in choices if c == scalars.written(c)])
    return QS204.diagnostic(message, help=advice, at=at, fix=_fix(value, sure))


def _out_of_range(name: str, error: ValidationError) -> tuple[str, str]:
    value, bound = error.instance, error.validator_value
    size = len(value) if isinstance(value, list | str | Mapping) else 0
    shown = _shown(value)
    words = str(cast("Mapping[str, Any]", error.schema).get("description", "")).rstrip(".")
    meaning = f": {words[0].lower()}{words[1:]}" if words else ""
    message = f"`{name}` cannot be {shown}"
    match error.validator:
        case "minimum":
            return message, f"write a value of at least {bound}, such as `{_pair(name, bound)}`"
        case "maximum":
            return message, f"write a value of at most {bound}, such as `{_pair(name, bound)}`"
        case "exclusiveMinimum":
            return message, f"write a value greater than {bound}"
        case "exclusiveMaximum":
            return message, f"write a value less than {bound}"
        case "multipleOf":
            return message, f"it must be a multiple of {bound}"
        case "minItems" | "minLength" | "minProperties" if size == 0:
            return f"`{name}` is empty", "give at least one entry, or remove the key"
        case "minItems" | "minLength" | "minProperties":
            return f"`{name}` has {size} of at least {bound} entries", f"give {bound}{meaning}"
        case "maxItems" | "maxLength" | "maxProperties":
            return f"`{name}` has {size} entries, at most {bound} fit", f"give {bound}{meaning}"
        case "pattern" if _is_quoted_number(error):
            return f"`{name}` cannot be the text `{shown}`", f"write it without quotes: `{value}`"
        case "pattern":
            form = cast("Mapping[str, Any]", error.schema).get(
                "x-qatspec-form", f"a text that matches `{bound}`"
            )
            advice = f"write {form}"
            plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(value)).strip("-.")
            if plain != value and re.search(str(bound), plain):
                advice += f", such as `{_pair(name, plain)}`"
            return f"`{name}` cannot be `{shown}`", advice
        case "uniqueItems":
            return f"`{name}` holds the same entry twice", "remove one"
        case "additionalItems" | "items" | "contains":
            return f"`{name}` has an entry too many", "remove it"
        case _:
            return f"`{name}`: {error.message}", "see `qatspec schema`"


def _is_quoted_number(error: ValidationError) -> bool:
    """A text that reads as a number, where the schema takes a number beside texts of a pattern."""
    types = cast("Mapping[str, Any]", error.schema).get("type", ())
    return bool({"integer", "number"} & {*types}) and _is_number(str(error.instance))


def _is_number(text: str) -> bool:
    try:
        return isinstance(scalars.resolve(text), int | float)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."

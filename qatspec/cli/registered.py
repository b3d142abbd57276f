"""Describe a registered record: its plugin, how a spec names it, and its params."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from qatspec.cli.output import echo, tables
from qatspec.registry import Provider
from qatspec.registry.messages import word
from qatspec.schema.reference import default_of, takes
from qatspec.types import PrepareConfig, QSpec

#: kind -> how a spec names one; the others take part wherever their ops are
_NAMED = {
    "model": "model: {{type: {name}, params: {{...}}}}",
    "dataset": "data: {{train: {{type: {name}, params: {{...}}}}}}",
    "qconfig": "qconfig: {name}, of a stage or of a module",
    "prepare_config": "quantize: {{modules: {{backbone: {{prepare: {name}}}}}}}",
    "observer": "qconfig: {{activation: {{observer: {name}}}}}",
    "march": "march: {name}",
}
#: Fields of records that are told as they are.
_FACTS = ("aliases", "metric", "needs_calibration", "pattern", "ops", "chips", "bit_exact")


def params_of(record: Any) -> Mapping[str, Any] | None:
    """The JSON Schema of what a spec may set: params of models and data sets, and a march's keys
    of `stages.compile`; None for the kinds that have none."""
    params: Mapping[str, Any] | None = getattr(record, "params", getattr(record, "options", None))
    return params


def print_registered(kind: str, record: Any, provider: Provider) -> None:
    """Print the description of a record."""
    echo(f"{word(kind)} {record.name}: {record.summary}")
    facts = [("from", f"{provider.entry_point} ({provider.dist}=={provider.version})")]
    if kind in _NAMED:
        facts.append(("named by", _NAMED[kind].format(name=record.name)))
    facts += _facts(record)
    width = max(len(name) for name, _ in facts)
    for name, fact in facts:
        echo(f"  {name:<{width}}  {fact}")
    schema = params_of(record)
    if schema is None:
        return
    what = "keys of stages.compile" if kind == "march" else "params"
    if not schema.get("properties"):
        echo(f"  it takes no {what}")
        return
    from qatspec.cli.columns import Column, print_columns

    head = (Column(what, title=True), Column("value"), Column("default"), Column("what it is"))
    echo()
    print_columns(tables(), head, list(_rows(schema, "")))


def qspec_words(spec: QSpec | None) -> str:
    """The quantization of a tensor as one line of text."""
    if spec is None:
        return "float"
    axis = "per output channel" if spec.ch_axis == 0 else "per tensor"
    return f"{spec.dtype} {axis}, observer {spec.observer}, fake-quant {spec.fake_quant}"


def _facts(record: Any) -> Iterator[tuple[str, str]]:
    for name in _FACTS:
        value = getattr(record, name, ())
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif value:
            yield name, value if isinstance(value, str) else ", ".join(value)
    config = getattr(record, "config", None)
    if isinstance(config, PrepareConfig):
        for field in fields(config):
            if (value := getattr(config, field.name)) != getattr(PrepareConfig(), field.name):
                yield field.name, str(value)
    elif config is not None:
        yield "activation", qspec_words(config.activation)
        yield "weight", qspec_words(config.weight)
    for op, reason in getattr(record, "float_ops", {}).items():
        yield "in float", f"{op}: {reason}"


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """(key with those above it, what it takes, its default, what it is), depth first."""
    for key, part in schema["properties"].items():
        name = f"{path}{key}"
        required = key in schema.get("required", ())
        default = "required" if required else default_of(part)
        items = part.get("items", {})
        if "properties" in part:
            yield name, "mapping", "required" if required else "", part.get("description", "")
            yield from _rows(part, f"{name}.")
            continue
        yield name, takes(part), default, part.get("description", "")
        if isinstance(items, Mapping) and "properties" in items:
            yield from _rows(items, f"{name}[].")

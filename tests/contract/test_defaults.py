"""A default of the spec language is written in one place: its schema, or a plugin's for params."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from qatspec.picture import ModelInput
from qatspec.registry import registry
from qatspec.schema import spec_schema
from qatspec.spec import InputSpec, Solver, TensorSpec, Trainer, dump, load, qconfig_rules
from qatspec.spec.model import DataRole, ModuleQuant, QConfigRules
from qatspec.types import RUNTIME_INPUT, TILED_OPTIONS, QConfig, QSpec

ROOT = Path(__file__).parents[2]
#: The packages that see a spec's values.
CORE = (
    "analyze",
    "backend",
    "cli",
    "engine",
    "picture",
    "plan",
    "spec",
    "stages",
    "train",
    "types",
)
#: definition of the schema -> the record that holds its keys
RECORDS = {
    "input": InputSpec,
    "tensor_input": TensorSpec,
    "data_role": DataRole,
    "module": ModuleQuant,
    "qconfig": QConfigRules,
    "qspec": QSpec,
    "trainer": Trainer,
    "solver": Solver,
    "float_solver": Solver,
}


def defaults(part: Any) -> Iterator[tuple[str, Any]]:
    """(key, default) of every property with one, at every depth of a schema."""
    if isinstance(part, Mapping):
        properties = part.get("properties", {})
        for key, below in properties.items() if isinstance(properties, Mapping) else ():
            if isinstance(below, Mapping) and "default" in below:
                yield key, below["default"]
        for below in part.values():
            yield from defaults(below)
    elif isinstance(part, list | tuple):
        for below in part:
            yield from defaults(below)


def plugin_schemas() -> dict[str, list[Any]]:
    """Package of each installed plugin -> the schemas of what it registers."""
    found: dict[str, list[Any]] = {}
    names = registry()
    for kind, attribute in (("model", "params"), ("dataset", "params"), ("march", "options")):
        for name in names.names(kind):
            package = f"qatspec_{names.provider(kind, name).entry_point}"
            found.setdefault(package, []).append(getattr(names.record(kind, name), attribute))
    return found


def repeats(code: str, schemas: list[Any]) -> Iterator[str]:
    """Each place of `code` that writes a default of `schemas` again, under the same name: the
    fallback of a `get` or `pop`, the default of a parameter or of a field. None does not count."""
    known: dict[str, list[str]] = {}
    for key, value in defaults(schemas):
        known.setdefault(key, []).append(canonical(value))
    for node in ast.walk(ast.parse(code)):
        for key, value in written_defaults(node):
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                continue
            if literal is not None and canonical(literal) in known.get(key, ()):
                yield f"line {value.lineno}: {key} = {ast.unparse(value)}"


def canonical(value: Any) -> str:
    """JSON in which 128.0 and 128, a tuple and a list are the same, but true and 1 are not."""
    return json.dumps(json.loads(json.dumps(value, default=repr), parse_float=shortened))


def shortened(text: str) -> float | int:
    return int(float(text)) if float(text).is_integer() else float(text)


def written_defaults(node: ast.AST) -> list[tuple[str, ast.expr]]:
    match node:
        case ast.Call(
            func=ast.Attribute(attr="get" | "pop" | "setdefault"),
            args=[ast.Constant(value=str() as key), value],
        ):
            return [(key, value)]
        case ast.FunctionDef(args=args):
            positional = [*args.posonlyargs, *args.args]
            last = positional[len(positional) - len(args.defaults) :]
            named: list[Any] = [*zip(last, args.defaults, strict=True)]
            named += zip(args.kwonlyargs, args.kw_defaults, strict=True)
            return [(a.arg, value) for a, value in named if value is not None]
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return [(name, value)]
        case ast.Dict(keys=keys, values=values) if None in keys:  # {"key": 1, **given}
            pairs = zip(keys, values, strict=True)
            return [(k.value, v) for k, v in pairs if isinstance(k, ast.Constant)]
        case _:
            return []


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("package", CORE)
def test_no_consumer_repeats_a_default_of_the_spec_language(package):
    schemas = [spec_schema(), {"properties": TILED_OPTIONS}, {"properties": RUNTIME_INPUT}]
    for path in sources(ROOT / "qatspec" / package):
        found = list(repeats(path.read_text(encoding="utf-8"), schemas))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize("package", sorted(plugin_schemas()))
def test_no_plugin_repeats_a_default_of_its_params(package):
    folder = ROOT / "plugins" / package
    if not folder.is_dir():
        pytest.skip(f"{package} is no plugin of this repository")
    for path in sources(folder):
        if path.parent.name == "params":
            continue
        found = list(repeats(path.read_text(encoding="utf-8"), plugin_schemas()[package]))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "code",
    [
        'x = trainer.get("validate_epochs", 1)',
        "def f(mean=128.0): ...",
        "def f(*, betas=(0.9, 0.999)): ...",
        'class A:\n    dtype: str = "qint8"',
        'x = {"format": "rgb", **given}',
    ],
)
def test_a_repeated_default_is_found(code):
    assert len(list(repeats(code, [spec_schema()]))) == 1
    assert not list(repeats(code.replace("128.0", "127").replace("1)", "2)"), [{}]))


def test_records_of_the_spec_have_the_defaults_of_its_schema():
    """At run time: what a record has by itself is what the schema states."""
    for definition, record in RECORDS.items():
        stated = dict(defaults({"properties": spec_schema()["$defs"][definition]["properties"]}))
        fields = {f.name: f for f in dataclasses.fields(record)}
        assert {*stated} & {*fields}, f"{record.__name__} holds no key of {definition}"
        for key in {*stated} & {*fields}:
            value = fields[key].default
            if value is not dataclasses.MISSING:
                assert canonical(value) == canonical(stated[key]), f"{record.__name__}.{key}"


def test_a_picture_is_read_as_a_file_that_says_nothing_has_it():
    size = (8, 8)
    fed, stated = ModelInput(size=size), InputSpec(size=size)
    assert (fed.format, fed.mean, fed.std) == (stated.format, stated.mean, stated.std)


def test_the_python_api_and_a_file_that_says_nothing_mean_the_same_quantization():
    rule = qconfig_rules({"": {}}).rules[0]
    assert rule.value == QConfig()
    assert qconfig_rules({"": {"weight": {"dtype": "qint4"}}}).rules[0].value == QConfig(
        weight=dataclasses.replace(QConfig().weight, dtype="qint4")
    )


SPEC = """\
qatspec: 1
name: plain
march: bayes
model: {type: efficientnet, params: {num_classes: 10}, input: {size: [64, 64]}}
data:
  train: {type: imagefolder_classification, params: {root: ., size: 64, made_up: 4}}
  val: {type: imagefolder_classification, params: {root: ., size: 64, made_up: 4}}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  calibration: {trainer: {steps: 1}, qconfig: {"": {activation: {dtype: qint16}}}}
  convert: {}
  compile: {}
"""


def test_every_default_is_filled_in_once_a_spec_is_loaded(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    spec = load(path)
    train = spec.stages["float"].trainer
    for record, definition, *without in (
        (spec.input, "input"),
        (spec.data["train"], "data_role", "params"),
        (train, "trainer", "scheduler"),
        (spec.stages["float"].solver, "float_solver"),
        (spec.stages["calibration"].solver, "solver"),
    ):
        for key, part in spec_schema()["$defs"][definition]["properties"].items():
            if "default" in part and key not in without:
                found = getattr(record, key)
                assert canonical(found) == canonical(part["default"]), (definition, key)
    assert train.optimizer.params == {
        "lr": 0.1,
        "momentum": 0,
        "nesterov": False,
        "weight_decay": 0,
        "groups": [],
    }
    assert train.scheduler.type == "constant"
    assert spec.stages["convert"].options == {"opset": None, "qdq": None}
    options = {**TILED_OPTIONS, **RUNTIME_INPUT}
    assert spec.stages["compile"].options == {k: p["default"] for k, p in options.items()}


def test_a_written_out_spec_of_sixteen_bits_means_the_same(tmp_path):
    """The defaults that `dump` writes out are no stricter than keys that are absent: an opset of 17
    would be refused beside int16."""
    path, again = tmp_path / "spec.yaml", tmp_path / "again.yaml"
    path.write_text(SPEC)
    again.write_text(dump(load(path)))
    assert load(again) == load(path)

"""The schemas are closed, described, valid, and agree with the Spec."""

import dataclasses
import importlib.resources
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from qatspec.schema import spec_schema
from qatspec.schema.reference import reference
from qatspec.spec import model as spec_model
from qatspec.types import PrepareConfig, QSpec

FILES = ("qatspec-1.schema.json", "summary-1.schema.json")


def load(name):
    return json.loads((importlib.resources.files("qatspec_schemas") / name).read_text("utf-8"))


def properties(schema, place="$"):
    """(place, subschema) of every property, at every depth."""
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield f"{place}.{name}", part
            yield from properties(part, f"{place}.{name}")
        for name, part in schema.get("$defs", {}).items():
            yield from properties(part, name)
        for key in ("items", "additionalProperties", "then"):
            yield from properties(schema.get(key), f"{place}.{key}")
        for part in [*schema.get("allOf", ()), *schema.get("prefixItems", ())]:
            yield from properties(part, place)


@pytest.mark.parametrize("name", FILES)
def test_valid(name):
    Draft202012Validator.check_schema(load(name))


@pytest.mark.parametrize("name", FILES)
def test_every_property_is_described(name):
    defs = load(name).get("$defs", {})
    for place, part in properties(load(name)):
        if part is True:
            continue
        target = defs.get(part.get("$ref", "").rpartition("/")[2], {})
        assert part.get("description") or target.get("description"), place


def test_the_reference_page_is_fresh():
    page = Path(__file__).parents[2] / "schemas" / "README.md"
    assert page.read_text() == reference(), "python -m qatspec.schema.reference > schemas/README.md"


def test_the_reference_page_has_every_key():
    page = reference()
    for place, part in properties(load(FILES[0])):
        if part is not True:
            key = place.rpartition(".")[2] or '""'
            assert f"`{key}`" in page, place


def test_no_one_of():
    assert "oneOf" not in json.dumps(load(FILES[0])), "discriminate by name instead"


def test_every_mapping_is_closed_or_open_on_purpose():
    open_ = {"vars", "params", "compile_stage", "optimizer", "scheduler", "named_input"}
    for place, part in properties(load(FILES[0])):
        if part is not True and part.get("type") == "object" and "properties" in part:
            assert "additionalProperties" in part, place
    for name, part in load(FILES[0])["$defs"].items():
        if "object" in part.get("type", ()) and name not in open_:
            assert "additionalProperties" in part, name


@pytest.mark.parametrize(
    ("definition", "record", "more", "fewer"),
    [
        ("input", spec_model.InputSpec, set(), {"at"}),
        ("tensor_input", spec_model.TensorSpec, set(), {"at"}),
        ("solver", spec_model.Solver, set(), {"at", "weights", "entry", "key_map", "fresh"}),
        ("float_solver", spec_model.Solver, set(), {"at", "pre_step", "pre_step_checkpoint"}),
        ("trainer", spec_model.Trainer, set(), {"at", "clip_value", "freeze_from_epoch"}),
        ("module", spec_model.ModuleQuant, set(), {"at", "path"}),
        ("qspec", QSpec, set(), set()),
        ("prepare", PrepareConfig, {"preset"}, {"march_preset"}),
    ],
)
def test_schema_and_record_have_the_same_fields(definition, record, more, fewer):
    fields = {f.name for f in dataclasses.fields(record)}
    assert set(spec_schema()["$defs"][definition]["properties"]) == fields - fewer | more


def test_what_counts_for_digests():
    free = {p for p, part in properties(load(FILES[0])) if part is not True
            and part.get("x-qatspec-affects") is False}  # fmt: skip
    assert free == {
        "$.qatspec", "$.extends", "$.vars", "$.smoke", "$.plugins", "data_role.workers",
        "trainer.checkpoint_steps", "float_solver.weights", "solver.pre_step",
        "solver.pre_step_checkpoint", "tensor_input.range",
    }  # fmt: skip

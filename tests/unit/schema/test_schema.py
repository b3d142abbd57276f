"""Schema errors as diagnostics, defaults, and what counts for digests."""

import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from qatspec.schema import affecting, check, merged_schema, spec_schema, with_defaults
from qatspec.types import ModelDef

BOX = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind"],
    "properties": {
        "kind": {"enum": ["round", "square"]},
        "size": {"type": "integer", "minimum": 1, "default": 3},
        "names": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "deep": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "threads": {"type": "integer", "x-qatspec-affects": False},
                "ratio": {"type": ["number", "null"], "default": None},
            },
        },
    },
    "allOf": [
        {"if": {"properties": {"kind": {"const": "round"}}, "required": ["kind"]},
         "then": {"properties": {"size": {"maximum": 9}}}}
    ],
}  # fmt: skip


def found(value, schema=BOX, at="/x"):
    return [(d.code, d.at, d.key) for d in check(value, schema, at)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"kind": "round"}, []),
        ({"kind": "rond"}, [("QS204", "/x/kind", False)]),
        ({}, [("QS202", "/x", True)]),
        ({"kind": "round", "sise": 1}, [("QS201", "/x/sise", True)]),
        ({"knd": "round"}, [("QS201", "/x/knd", True)]),
        ({"kind": "round", "size": 0}, [("QS205", "/x/size", False)]),
        ({"kind": "round", "size": 10}, [("QS205", "/x/size", False)]),
        ({"kind": "square", "size": 10}, []),
        ({"kind": "round", "size": "3"}, [("QS203", "/x/size", False)]),
        ({"kind": "round", "size": True}, [("QS203", "/x/size", False)]),
        ({"kind": "round", "names": ["a", 1, "c"]},
         [("QS205", "/x/names", False), ("QS203", "/x/names/1", False)]),
        ([], [("QS203", "/x", False)]),
    ],
)  # fmt: skip
def test_place_and_code(value, expected):
    assert sorted(found(value)) == sorted(expected)


def test_pointers_are_escaped():
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert found({"a/b~c": "x"}, schema, "") == [("QS203", "/a~1b~0c", False)]


@pytest.mark.parametrize(
    ("value", "help_"),
    [
        ({"kind": "round", "sise": 1}, "did you mean `size`?"),
        ({"kind": "round", "size:4": None}, "write a space behind the colon: `size: 4`"),
        ({"kind": "round", "size:4": 1}, "did you mean `size`?"),
        ({"kind": "round", "threads": 1}, "it belongs under `deep`: `deep: {threads: 1}`"),
        ({"kind": "round", "qqqq": 1},
         "remove it; allowed here: `kind`, `size`, `names`, `deep`"),
        ({"kind": "round", "size": "3"}, "write it without quotes: `3`"),
        ({"kind": "round", "names": "a"}, "write a list, such as `names: [a]`"),
        ({"kind": "round", "names": [3]}, 'put it in quotes: `"3"`'),
        ({"kind": "round", "size": None}, "write an integer, such as `size: 3`, or delete the key"),
    ],
)  # fmt: skip
def test_the_way_out(value, help_):
    (diagnostic,) = check(value, BOX)
    assert diagnostic.help == help_


SIZE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
AUTO = {"type": ["integer", "string"], "minimum": 1, "pattern": "^auto$"}


@pytest.mark.parametrize(
    ("value", "schema", "help_"),
    [
        ("128x96", SIZE, "write a list, such as `k: [128, 96]`"),
        ("128, 96", SIZE, "write a list, such as `k: [128, 96]`"),
        ("large", SIZE, "write a list"),
        ("1x2x3", SIZE, "write a list"),
        (128, SIZE, "write a list, such as `k: [128, 128]`"),
        (["opt"], {"type": "object"}, "write a mapping, such as `k: {}`"),
        ("16", AUTO, "write it without quotes: `16`"),
        ("car", AUTO, "write a text that matches `^auto$`"),
    ],
)  # fmt: skip
def test_the_way_out_passes(value, schema, help_):
    schema = {"type": "object", "properties": {"k": schema}}
    (diagnostic,) = check({"k": value}, schema)
    assert diagnostic.help == help_
    if written := re.search(r"`k: (.+)`", help_):
        assert check({"k": yaml.safe_load(written[1])}, schema) == []


def test_defaults_at_every_depth_and_shared_with_nobody():
    value = {"kind": "round", "deep": {}}
    filled = with_defaults(BOX, value)
    assert filled == {"kind": "round", "size": 3, "deep": {"ratio": None}}
    assert value == {"kind": "round", "deep": {}}
    filled["deep"]["ratio"] = 1
    assert with_defaults(BOX, {"kind": "round", "deep": {}})["deep"] == {"ratio": None}


def test_a_default_is_never_the_schemas_own_object():
    schema = {"type": "object", "properties": {"l": {"type": "array", "default": [1]}}}
    with_defaults(schema, {})["l"].append(2)
    assert with_defaults(schema, {}) == {"l": [1]}


def test_what_counts():
    value = {"kind": "round", "names": ["a", "b"], "deep": {"threads": 3, "ratio": 0.5}}
    assert affecting(BOX, value, at="/x") == {
        "/x/deep/ratio": 0.5, "/x/kind": "round", "/x/names/0": "a", "/x/names/1": "b",
    }  # fmt: skip


def test_empty_collections_count_as_themselves():
    assert affecting({}, {"a": [], "b": {}}) == {"/a": [], "/b": {}}


def test_merged_schema_keeps_local_references():
    params = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"block": {"$ref": "#/$defs/block"}},
        "$defs": {"block": {"type": "object", "required": ["k"]}},
    }
    net = ModelDef(name="net", summary="s", params=params, build=print)
    schema = merged_schema(models=[net])
    Draft202012Validator.check_schema(schema)
    model = {"type": "net", "params": {"block": {}}, "input": {"size": [1, 1]}}
    part = {"$ref": "#/properties/model", "$defs": schema["$defs"]}
    whole = {**part, "properties": schema["properties"]}
    errors = list(Draft202012Validator(whole).iter_errors(model))
    assert any("'k' is a required property" in e.message for e in errors)


@pytest.mark.parametrize("kind", ["constant", "cosine", "poly", "one_cycle", "plateau"])
def test_a_type_alone_is_written_as_a_mapping(kind):
    scheduler = {"$defs": spec_schema()["$defs"], "$ref": "#/$defs/scheduler"}
    (diagnostic,) = check(kind, scheduler, "/scheduler")
    written = f"scheduler: {{type: {kind}}}"
    assert diagnostic.help == f"write a mapping, such as `{written}`"
    assert check(yaml.safe_load(written)["scheduler"], scheduler) == []


@pytest.mark.parametrize("text", ["step", "cosin"])
def test_a_text_that_is_no_complete_type_gives_no_example(text):
    scheduler = {"$defs": spec_schema()["$defs"], "$ref": "#/$defs/scheduler"}
    (diagnostic,) = check(text, scheduler, "/scheduler")
    assert "type" not in diagnostic.help


@pytest.mark.parametrize(
    ("steps", "help_"),
    [
        (2, "move it up to the top of the spec, beside `scheduler`: `steps: 2`"),
        ([2], "`type: step` takes `epochs`, `factor`, `warmup_steps`; remove `steps`"),
    ],
)
def test_a_key_is_moved_up_where_its_value_fits(steps, help_):
    trainer = {"$defs": spec_schema()["$defs"], "$ref": "#/$defs/trainer"}
    scheduler = {"type": "step", "epochs": [1], "steps": steps}
    (diagnostic,) = check({"optimizer": {"type": "sgd", "lr": 1}, "scheduler": scheduler}, trainer)
    assert diagnostic.help == help_

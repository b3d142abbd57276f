"""`model.inputs`: what the Spec holds, what data sets take over, what is warned of."""

import json

import pytest

from qatspec.diag import DiagnosticError
from qatspec.spec import Feed, InputSpec, TensorSpec, dump, feeds, load, preprocessing, warnings
from qatspec.spec.inputs import given_to_data, taken_from_input
from tests.diagnostics.plugin import fake_registry

REGISTRY = fake_registry()
PICTURE, GRAY = {"size": [8, 12], "mean": 100}, {"size": [4, 4], "format": "gray", "channels": 1}
SPEED, TOKENS = {"shape": [3], "scale": 0.5}, {"shape": [7], "dtype": "int64", "range": [0, 9]}


def spec(tmp_path, inputs, **more):
    data = {
        "qatspec": 1,
        "name": "several",
        "march": "bayes",
        "model": {"type": "net", "params": {"num_classes": 2}, "inputs": inputs},
        "data": {"train": {"type": "digits"}, "val": {"type": "digits"}},
        "quantize": {"prepare": "horizon"},
        "stages": {
            "float": {"trainer": {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}}},
            "qat": {
                "trainer": {"epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}},
                "qconfig": "horizon_qat",
            },
            **more,
        },
    }
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(data))
    return load(path, registry=REGISTRY)


def test_pictures_and_tensors(tmp_path):
    made = spec(tmp_path, {"rgb": PICTURE, "speed": SPEED, "ids": TOKENS})
    rgb, speed, ids = made.inputs.values()
    assert isinstance(rgb, InputSpec) and rgb.shape == (3, 8, 12) and rgb.mean == 100
    assert isinstance(speed, TensorSpec) and speed.shape == (3,) and speed.scale == 0.5
    assert (speed.dtype, speed.is_integer, ids.is_integer) == ("float32", False, True)
    assert ids.range == (0, 9) and rgb.at == "/model/inputs/rgb"
    again = tmp_path / "again.yaml"
    again.write_text(dump(made))
    assert load(again, registry=REGISTRY) == made


@pytest.mark.parametrize(
    ("inputs", "only"),
    [
        ({"rgb": PICTURE, "speed": SPEED}, "rgb"),
        ({"speed": SPEED}, None),
        ({"left": PICTURE, "right": PICTURE}, None),
    ],
)
def test_the_only_picture(tmp_path, inputs, only):
    made = spec(tmp_path, inputs)
    assert made.input is (None if only is None else made.inputs[only])


def test_what_a_data_set_may_take_over():
    params = {
        "mean": {"x-qatspec-input": "mean"},
        "all": {"x-qatspec-input": "inputs"},
        "fed": {"x-qatspec-input": "inputs/rgb"},
        "size": {"x-qatspec-input": "inputs/rgb/size"},
        "words": {"x-qatspec-input": "inputs/ids/shape"},
        "other": {"x-qatspec-input": "inputs/none"},
        "own": {},
    }
    model = {"inputs": {"rgb": {**PICTURE, "scale": 1}, "ids": TOKENS}}
    taken = taken_from_input({"properties": params}, given_to_data(model))
    ids = {"shape": [7], "dtype": "int64"}  # how it is quantized and tried is not the data's
    assert taken == {
        "mean": 100, "all": {"rgb": PICTURE, "ids": ids}, "fed": PICTURE, "size": [8, 12],
        "words": [7],
    }  # fmt: skip
    two = given_to_data({"inputs": {"a": PICTURE, "b": GRAY}})
    assert "mean" not in two and two["inputs/b"] == GRAY


def test_each_picture_is_warned_of(tmp_path):
    clipped = {"size": [8, 8], "mean": 0, "std": 1, "scale": 0.0078125}
    shares = {"size": [8, 8], "mean": [0.4, 0.4, 0.4], "std": 0.2}
    found = warnings(spec(tmp_path, {"a": clipped, "b": shares, "c": PICTURE}), REGISTRY)
    places = {d.code: d.at for d in found if d.at and d.at.startswith("/model")}
    assert places == {"QS617": "/model/inputs/a/scale", "QS616": "/model/inputs/b/mean"}


def test_files_record_the_form_of_each(tmp_path):
    record = preprocessing(spec(tmp_path, {"rgb": PICTURE, "ids": TOKENS}))
    assert record["inputs"]["ids"] == {"shape": [7], "dtype": "int64"}
    assert record["inputs"]["rgb"] == {
        "format": "rgb", "size": [8, 12], "mean": [100] * 3, "std": [128] * 3,
    }  # fmt: skip


INPUTS = {
    "rgb": InputSpec(size=(8, 8)),
    "depth": InputSpec(size=(8, 8), format="gray", channels=1),
    "speed": TensorSpec(shape=(3,)),
}
OWN = Feed("featuremap", "NCHW")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {}),
        ({"rt_input_type": {"rgb": "nv12"}}, {"rgb": Feed("nv12", "NCHW")}),
        (
            {"rt_input_type": {"depth": "gray"}, "rt_input_layout": "NHWC"},
            {"rgb": Feed("featuremap", "NHWC"), "depth": Feed("gray", "NHWC")},
        ),
        (
            {"rt_input_layout": {"rgb": "NHWC"}},
            {"rgb": Feed("featuremap", "NHWC")},
        ),
    ],
)
def test_what_each_is_fed(options, wanted):
    found = feeds(options, INPUTS)
    assert {n: f for n, f in found.items() if not f.is_own} == wanted
    assert all(f == OWN for n, f in found.items() if n not in wanted)


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"rt_input_type": {"speed": "rgb"}}, "/rt_input_type/speed"),
        ({"rt_input_layout": {"speed": "NHWC"}}, "/rt_input_layout/speed"),
        ({"rt_input_type": {"none": "rgb"}}, "/rt_input_type/none"),
        ({"rt_input_type": {"depth": "nv12"}}, "/rt_input_type/depth"),
        ({"rt_input_type": "nv12"}, "/rt_input_type"),  # depth has no chroma
    ],
)
def test_what_none_of_them_can_be_fed(tmp_path, options, at):
    inputs = {"rgb": PICTURE, "depth": GRAY, "speed": SPEED}
    with pytest.raises(DiagnosticError) as caught:
        spec(tmp_path, inputs, convert={}, compile=options)
    (found,) = caught.value.diagnostics
    assert (found.code, found.at) == ("QS806", f"/stages/compile{at}")

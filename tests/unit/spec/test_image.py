"""`model.input` is said once: data sets take it over, and contradictions are told."""

import pytest

from qatspec.diag import DiagnosticError
from qatspec.spec import dump, load, preprocessing, warnings

SPEC = """
qatspec: 1
name: pictures
march: bayes
model:
  type: efficientnet
  params: {{num_classes: 3}}
  input: {{size: [48, 64], {image}}}
data:
  train: {{type: imagefolder_classification, params: {{root: ., made_up: 3{train}}}}}
  val: {{type: imagefolder_classification, params: {{root: ., made_up: 3{val}}}}}
quantize: {{prepare: horizon}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}}}
  qat: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}, qconfig: {qconfig}}}
"""
IMAGENET = "mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]"


@pytest.fixture
def spec(tmp_path):
    def read(image=IMAGENET, train="", val="", qconfig="horizon_qat"):
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(image=image, train=train, val=val, qconfig=qconfig))
        return load(path)

    return read


def test_every_role_takes_it_over(spec):
    made = spec(f"{IMAGENET}, format: bgr, resize: stretch")
    assert made.input.mean == (123.675, 116.28, 103.53)
    for role in made.data.values():
        params = role.dataset.params
        assert params["size"] == [48, 64] and params["format"] == "bgr"
        assert params["mean"] == [123.675, 116.28, 103.53] and params["resize"] == "stretch"
        assert params["std"] == [58.395, 57.12, 57.375]
    assert warnings(made) == ()


def test_what_a_role_says_itself_stands(spec):
    made = spec(train=", size: 32")
    assert made.data["train"].dataset.params["size"] == 32
    assert made.data["val"].dataset.params["size"] == [48, 64]


def test_a_role_that_contradicts_it_is_told(spec):
    (found,) = warnings(spec(val=", mean: 128"))
    assert found.code == "QS008" and "model.input" in found.message


def test_the_dump_gives_the_same_spec(spec, tmp_path):
    made = spec(f"{IMAGENET}, resize: stretch")
    path = tmp_path / "again.yaml"
    path.write_text(dump(made))
    assert load(path) == made


@pytest.mark.parametrize(
    ("image", "clips"),
    [
        ("scale: 0.0078125", False),
        ("mean: 0, std: 255, scale: 0.0078125", False),
        ("mean: 0, std: 1, scale: 0.0078125", True),
        (f"{IMAGENET}, scale: 0.0078125", True),
        (f"{IMAGENET}, scale: 0.0208", False),
        (IMAGENET, False),
    ],
)
def test_a_scale_that_clips_pixels_is_told(spec, image, clips):
    found = warnings(spec(image))
    assert [d.code for d in found] == (["QS617"] if clips else [])
    if clips:  # what the help proposes
        proposed = found[0].help.rpartition("scale: ")[2].strip("`")
        assert warnings(spec(image.rpartition(", ")[0] + f", scale: {proposed}")) == ()


def test_features_are_not_taken_for_pixels(spec, monkeypatch):
    """A data set without `mean`, and a spec that writes none: its numbers are its own."""
    made = spec("scale: 0.001")
    assert [d.code for d in warnings(made)] == ["QS617"]
    for role in made.data.values():
        for key in ("mean", "std"):
            monkeypatch.delitem(role.dataset.params, key, raising=False)
    assert warnings(made) == ()


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("value", ["[1, 2]", "[1, 2, 3, 4]", "[1]"])
def test_as_many_numbers_as_channels(spec, key, value):
    with pytest.raises(DiagnosticError) as caught:
        spec(f"{key}: {value}")
    assert caught.value.diagnostics[0].code in ("QS205", "QS616")


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]", True),
        ("mean: 0.5, std: 0.5", True),
        ("mean: 0, std: 1", False),
        ("mean: 0, std: 255", False),
        ("mean: 127.5, std: 127.5", False),
        ("mean: 0.5, std: 255", False),
    ],
)
def test_numbers_of_pixels_from_0_to_1_are_told(spec, image, told):
    found = warnings(spec(image))
    assert [d.code for d in found] == (["QS616"] if told else [])
    if told:  # what the help proposes
        mean, std = found[0].help.split("`")[1::2]
        assert warnings(spec(f"{mean}, {std}")) == ()


def test_files_record_how_pictures_become_the_input(spec):
    assert preprocessing(spec("mean: 0, std: 255")) == {
        "format": "rgb", "size": [48, 64], "mean": [0, 0, 0], "std": [255, 255, 255],
        "crop": 0.875,  # what the data set does without `resize`
    }  # fmt: skip
    assert preprocessing(spec("channels: 12")) is None, "features are no picture"
    assert preprocessing(spec(f"{IMAGENET}, resize: stretch")) == {
        "format": "rgb", "size": [48, 64], "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375], "resize": "stretch",
    }  # fmt: skip
    assert preprocessing(spec("format: bgr"))["mean"] == [128, 128, 128]

"""What `validate` says of specs that use these models and data sets, and that it needs no torch."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from qatspec_vision.checks import check_deeplab, check_efficientnet, check_fcos, check_loaders


def spec(data: dict[str, Any] | None = None, **params: Any) -> Any:
    roles = {
        role: SimpleNamespace(
            at=f"/data/{role}", dataset=SimpleNamespace(type="coco_detection", params=given)
        )
        for role, given in (data or {}).items()
    }
    return SimpleNamespace(
        model=SimpleNamespace(
            type="fcos",
            plugin="vision",
            params={
                "num_classes": 3,
                "backbone": {"strides": [8, 16, 32], "variant": "b0"},
                "neck": {"levels": 5},
                **params,
            },
        ),
        input=SimpleNamespace(
            at="/model/input", size=(512, 512), format="rgb", mean=128.0, std=128.0, resize=None
        ),
        data=roles,
    )


def loader(**changes: Any) -> dict[str, Any]:
    return {"size": 512, "format": "rgb", "mean": 128, "std": 128.0, **changes}


def test_a_sound_spec_has_no_findings() -> None:
    sound = spec({"train": loader()})
    assert [*check_fcos(sound), *check_loaders(sound)] == []


@pytest.mark.parametrize(
    ("params", "at", "words"),
    [
        (
            {"backbone": {"strides": [8, 64], "variant": "b0"}},
            "/model/params/backbone/strides",
            "stride 64",
        ),
        (
            {"backbone": {"strides": [4, 16], "variant": "b0"}},
            "/model/params/backbone/strides",
            "twice",
        ),
        ({"neck": {"levels": 2}}, "/model/params/neck/levels", "do not fit"),
        ({"neck": {"levels": 8}}, "/model/input/size", "multiples of 1024"),
    ],
)
def test_what_cannot_be_built(params: dict[str, Any], at: str, words: str) -> None:
    (finding,) = check_fcos(spec(**params))
    assert (finding.at, finding.severity) == (at, "error")
    assert words in finding.message


@pytest.mark.parametrize(("check", "name"), [
    (check_efficientnet, "efficientnet"), (check_deeplab, "deeplabv3plus"),
])  # fmt: skip
@pytest.mark.parametrize(("stages", "ends"), [(1, [4]), (3, [4, 8, 16]), (4, None)])
def test_stages_that_do_not_reach_the_strides(check, name, stages, ends) -> None:
    block = {"kernel": 3, "repeats": 1, "channels": 8, "expand": 1, "stride": 2}
    backbone = {"variant": "b0", "blocks": [block] * stages}
    told = spec(backbone=backbone, head={"dilations": [2], "repeats": [1]})
    told.model.type = name
    found = [(f.at, str(ends) in f.message) for f in check(told)]
    assert found == ([("/model/params/backbone/blocks", True)] if ends else [])


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 256), ("size", [512, 256]), ("format", "yuv444"), ("mean", 0.0), ("std", 1.0)],
)
def test_data_that_is_not_the_models_input(key: str, value: Any) -> None:
    (finding,) = check_loaders(spec({"val": loader(**{key: value})}))
    assert finding.at == f"/data/val/params/{key}"


def test_one_number_stands_for_every_channel() -> None:
    told = spec({"val": loader(mean=[128, 128.0, 128])})
    assert [*check_loaders(told)] == []


@pytest.mark.parametrize("value", [[128.0, 128.0, 127.0], [127.0] * 3])
def test_another_mean_of_a_channel(value: list[float]) -> None:
    (finding,) = check_loaders(spec({"val": loader(mean=value)}))
    assert str(value) in finding.message


def test_loading_the_plugins_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, qatspec_vision.plugin as v, qatspec_demo.plugin as d\n"
        "v.qatspec_models(); v.qatspec_datasets(); d.qatspec_datasets()\n"
        "import qatspec_vision.data.layout, qatspec_demo.identity\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'PIL', 'pycocotools'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_users_model_of_the_same_name_is_not_looked_at():
    theirs = spec()
    theirs.model.plugin, theirs.model.params = "fcos.py", {"nc": 3}
    assert not list(check_fcos(theirs))

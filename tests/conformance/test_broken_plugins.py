"""The kit is worth what it fails: plugins that are broken on purpose, one fault each."""

from __future__ import annotations

import re
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import (
    NO_PARAMS,
    Artifact,
    DatasetDef,
    FoundData,
    March,
    ModelDef,
    ModelInput,
    Observer,
    ObserverDef,
    PrepareConfig,
    PrepareConfigDef,
    Program,
    QConfig,
    QConfigDef,
    QSpec,
    Sample,
    Verdict,
    codes,
    hookimpl,
    interpret,
    lazy,
)
from qatspec.registry import registry
from qatspec.testing.kit import CHECKS, conform
from tests.conformance.failing import failing

# -- a plugin as a whole ---------------------------------------------------------------------------


def model(**fields) -> ModelDef:
    made = {"name": "kit_net", "summary": "s", "params": NO_PARAMS, "build": lambda p: Net()}
    return ModelDef(**{**made, **fields})


def schema(**part) -> dict:
    return {"type": "object", "additionalProperties": False, "properties": {"a": part}}


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"name": "Net"}, "hooks_return_records"),
        ({"summary": " "}, "summaries_are_there"),
        ({"params": schema(type="integer")}, "model_schema_is_closed_and_described"),
        ({"params": {"type": "object", "properties": {}}}, "model_schema_is_closed_and_described"),
        ({"params": {"type": "objekt"}}, "model_schema_is_closed_and_described"),
        ({"params": schema(type="integer", default="x", description="d")},
         "model_defaults_obey_the_schema"),
        ({"build": lazy("qatspec.nowhere:build")}, "named_callables_exist"),
        ({"build": lazy("qatspec.api:API_VERSION")}, "named_callables_exist"),
    ],
)  # fmt: skip
def test_records(fields, check):
    assert check in failing(models=[model(**fields)])


def test_a_plugin_that_nobody_finds():
    assert failing() == ["registers_something"]


def test_two_records_of_one_name():
    assert "names_are_unique" in failing(models=[model(), model()])


def test_another_api_version():
    found = failing(api=3, models=[model()])
    assert found[:2] == ["api_version", "hooks_return_records"]


def test_a_module_that_imports_torch(tmp_path, monkeypatch):
    (tmp_path / "heavy_plugin.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    (check,) = (c for c in CHECKS if c.name == "loading_imports_no_torch")
    (outcome,) = conform(ModuleType("heavy_plugin"), (check,))
    assert (outcome.status, outcome.reason) == ("failed", "name callables with qatspec.api.lazy")


def test_the_process_registry_is_as_it_was():
    before = [p.entry_point for p in registry().plugins()], registry().names("model")
    failing(models=[model()])
    assert ([p.entry_point for p in registry().plugins()], registry().names("model")) == before


# -- models ----------------------------------------------------------------------------------------


class Net(nn.Module):
    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv(x).mean((2, 3))

    def loss(self, outputs, targets):
        labels = torch.stack([t["label"] for t in targets])
        return {"ce": nn.functional.cross_entropy(outputs, labels) * self.factor}

    def predict(self, outputs):
        return list(outputs)


class Branching(Net):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(())


class Infinite(Net):
    factor = float("inf")


def test_a_sound_model():
    assert failing(models=[model()]) == []


@pytest.mark.parametrize(
    ("net", "check"),
    [
        (Branching, "model_builds_and_traces"),
        (lambda: "net", "model_builds_and_traces"),
        (lambda: nn.Conv2d(3, 1, 1), "model_builds_and_traces"),
        (Noisy, "model_is_deterministic"),
        (Infinite, "model_losses_are_finite"),
    ],
)
def test_models(net, check):
    assert check in failing(models=[model(build=lambda params: net())])


# -- data sets -------------------------------------------------------------------------------------


class Data:
    classes = ("a",)
    dtype, seen = np.float32, 0

    def __len__(self):
        return 3

    def sample(self, index, rng):
        image = rng.normal(size=(3, 4, 4)).astype(self.dtype)
        return Sample(image, {"label": np.array(0)}, {})


class Stateful(Data):
    def sample(self, index, rng):
        self.seen += 1
        return Sample(np.full((3, 4, 4), self.seen, np.float32), {}, {})


class Doubles(Data):
    dtype = np.float64


def dataset(data=Data, fingerprint=lambda params, base: "one") -> DatasetDef:
    opened = lambda params, cache, base: data()  # noqa: E731
    return DatasetDef(
        name="kit_data", summary="s", params=NO_PARAMS, open=opened, fingerprint=fingerprint,
        metric="m",
    )  # fmt: skip


def test_data_sets():
    assert failing(datasets=[dataset()]) == []
    assert failing(datasets=[dataset(Stateful)]) == ["dataset_samples_in_any_order"]
    assert failing(datasets=[dataset(Doubles)]) == ["dataset_samples_in_any_order"]
    count = iter(range(9))
    moving = dataset(fingerprint=lambda params, base: str(next(count)))
    assert failing(datasets=[moving]) == ["dataset_fingerprint_is_stable"]
    size = {"type": "integer", "default": 4, "description": "d", "x-qatspec-input": "sizes"}
    other = replace(dataset(), params={**NO_PARAMS, "properties": {"size": size}})
    assert failing(datasets=[other]) == ["dataset_takes_keys_that_the_input_has"]
    eager = replace(
        dataset(), recognize=lambda folder: FoundData(what="w", task="detection", roles={})
    )
    assert failing(datasets=[eager]) == ["dataset_recognizes_no_empty_folder"]


class Stretches(Data):
    def read(self, path):
        image, meta = ModelInput(size=(4, 4), resize="stretch").read(path)
        return Sample(image, {}, meta)


def test_how_a_data_set_fits_pictures():
    size = {"type": "integer", "default": 4, "description": "d"}
    plain = replace(dataset(Stretches), params={**NO_PARAMS, "properties": {"size": size}})
    fits = lambda said: replace(plain, fitting=lambda params: said)  # noqa: E731
    assert failing(datasets=[plain]) == []
    assert failing(datasets=[fits({"resize": "stretch"})]) == []
    for said in ({"resize": "letterbox"}, {}, {"crop": 0.9}):
        assert failing(datasets=[fits(said)]) == ["dataset_fits_pictures_as_it_says"]
    without = replace(fits({"resize": "stretch"}), open=lambda params, cache, base: Data())
    assert failing(datasets=[without]) == ["dataset_fits_pictures_as_it_says"]


# -- presets and observers -------------------------------------------------------------------------


def test_presets():
    bad = QConfigDef(
        name="kit_q", summary="s", config=QConfig(activation=QSpec(observer="nobody_has_it"))
    )
    assert failing(qconfigs=[bad]) == ["qconfig_qconfig_builds"]
    assert failing(qconfigs=[replace(bad, config=QConfig())]) == []
    config = PrepareConfig(non_traceable_module_name=("nowhere",))
    wrong = PrepareConfigDef(name="kit_p", summary="s", config=config)
    assert failing(prepare_configs=[wrong]) == ["prepare_config_prepare_config_prepares"]
    assert failing(prepare_configs=[replace(wrong, config=PrepareConfig())]) == []


class Plain(Observer):
    """Sound, but for what a subclass breaks."""

    def forward(self, x):
        low, high = self.extremes(x)
        finite = torch.isfinite(low) & torch.isfinite(high)
        self.max_val.copy_(torch.where(finite, torch.maximum(self.max_val, high), self.max_val))
        self.min_val.copy_(torch.where(finite, torch.minimum(self.min_val, low), self.min_val))


class Credulous(Plain):
    def forward(self, x):
        low, high = self.extremes(x)
        self.max_val.copy_(torch.maximum(self.max_val, high))
        self.min_val.copy_(torch.minimum(self.min_val, low))


class Scalar(Plain):
    def amax(self):
        return super().amax()[0]


class Drawing(Plain):
    def amax(self):
        return super().amax() * torch.rand(1)


class Forgetful(Plain):
    largest = 0.0

    def forward(self, x):
        super().forward(x)
        self.largest = float(super().amax())

    def amax(self):
        return torch.tensor([self.largest])


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (Plain, []),
        (Credulous, ["observer_survives_every_batch"]),
        (Scalar, ["observer_survives_every_batch"]),
        (Forgetful, ["observer_state_is_kept"]),
    ],
)
def test_observers(build, found):
    record = ObserverDef(name="kit_observer", summary="s", build=build)
    assert failing(observers=[record]) == found


def test_an_observer_that_draws_lots():
    record = ObserverDef(name="kit_observer", summary="s", build=Drawing)
    assert "observer_is_deterministic" in failing(observers=[record])


# -- marches ---------------------------------------------------------------------------------------


def supports(op, program):
    return Verdict(True)


def compile_program(program, options):
    ports = {"inputs": program.inputs, "outputs": program.outputs}
    return Artifact(march="kit_chip", sections={"program": program.to_bytes()}, **ports)


def run(artifact, ints):
    return interpret(Program.from_bytes(artifact.sections["program"]), *ints)


def refuse(program, options):
    raise codes.QS801.error("no")


COUNT = iter(range(1000))


def dated(program, options):
    made = compile_program(program, options)
    return replace(made, manifest={"number": next(COUNT)})


def off_by_one(artifact, ints):
    return [array ^ 1 for array in run(artifact, ints)]


CASES = [
    ({}, []),
    ({"compile": refuse}, "march_supports_what_it_compiles"),
    ({"supports": lambda op, program: Verdict(False)}, "march_supports_what_it_compiles"),
    ({"supports": lambda op, program: True}, "march_supports_what_it_compiles"),
    ({"compile": lambda program, options: None}, "march_supports_what_it_compiles"),
    ({"compile": dated}, "march_same_program_same_bytes"),
    ({"run": off_by_one}, "march_run_equals_interpret"),
]


@pytest.mark.parametrize(("fields", "check"), CASES)
def test_marches(fields, check):
    made = {"supports": supports, "compile": compile_program, "run": run, **fields}
    record = March(name="kit_chip", summary="s", version=1, **made)
    if check:
        assert failing(check, marches=[record]) == [check]
    else:
        assert failing(marches=[record]) == []


def test_a_compiler_that_raises_is_told_with_the_op_and_the_line():
    def crash(program, options):
        raise RuntimeError("no licence")

    record = March(
        name="kit_chip", summary="s", version=1, supports=supports, compile=crash, run=run
    )
    plugin = type("Broken", (), {"qatspec_marches": staticmethod(hookimpl(lambda: [record]))})()
    checks = [check for check in CHECKS if check.name == "march_supports_what_it_compiles"]
    (outcome,) = conform(plugin, checks)
    wanted = r"\w+: compile raises RuntimeError: no licence \(test_broken_plugins.py:\d+\)"
    assert re.fullmatch(wanted, outcome.reason), outcome.reason

"""Editing a value changes exactly the steps whose tensors or metrics depend on it: every key of the
language. tests/unit/plan/test_mutations.py trains, and holds the digests against tensors."""

import json

import pytest

from qatspec.plan import resolve
from qatspec.plan.digest import digest_of_keys
from qatspec.schema import spec_schema
from qatspec.source.pointer import split
from qatspec.spec import load
from tests.diagnostics.plugin import fake_registry
from tests.trainers import OPTIMIZERS, SCHEDULERS

REGISTRY = fake_registry()

_MAPPING = {"torch.nn.Conv2d": "torch.nn.ReLU"}
_QSPEC = {
    "dtype": "qint8", "observer": "percentile", "fake_quant": "moving", "averaging_constant": 0.5,
    "ch_axis": 0, "percentile": 99.0, "bins": 64, "scale": 0.5,
}  # fmt: skip
_QCONFIG = {
    "": "horizon_qat",
    "object_type": {"torch.nn.Conv2d": {"activation": _QSPEC, "weight": _QSPEC}, "torch.add": None},
    "module_name_regex": [["head", "horizon_qat"], ["neck", None]],
    "module_name": {"body": None},
    "module_name_object_type_order": [["head", "torch.add", 0, None]],
    "precedence": "object_type_first",
}
_PREPARE = {
    "preset": "horizon",
    "input_scale": 0.25,
    "shared_conv": "tied",
    "standalone_module_name": [{"name": "a", "qconfig": "horizon_qat", "prepare": "horizon"}],
    "standalone_module_class": [{"class": "my.Net", "qconfig": "horizon_qat"}],
    "non_traceable_module_name": ["b"],
    "non_traceable_module_class": ["my.Block"],
    "additional_fuser_method_mapping": _MAPPING,
    "additional_qat_module_mapping": _MAPPING,
    "additional_fusion_pattern": _MAPPING,
    "additional_quant_pattern": _MAPPING,
    "float_to_observed_custom_module_class": _MAPPING,
    "observed_to_quantized_custom_module_class": _MAPPING,
    "input_quantized_idxs": [0],
    "output_quantized_idxs": [0],
    "preserved_attributes": ["anchors"],
    "wrap": ["my.function"],
    "boundary": ["head"],
}
_LEAF = {
    "qconfig": _QCONFIG, "prepare": _PREPARE, "quantize_input": True, "quantize_output": True,
}  # fmt: skip
_SOLVER = {"pre_step_checkpoint": "best", "allow_miss": False, "ignore_extra": False}


def _role(split):
    return {
        "type": "digits", "params": {"split": split, "root": "here"}, "batch_size": 8, "workers": 0,
        "broken": "skip",
    }  # fmt: skip


FULL = {
    "qatspec": 1,
    "name": "digits",
    "march": "bayes",
    "seed": 1,
    "vars": {"unused": 1},
    "smoke": {"seed": 2},
    "model": {
        "type": "net",
        "params": {"num_classes": 10, "width": 2.0},
        "input": {
            "size": [64, 32], "channels": 3, "format": "rgb", "mean": 100, "std": 50, "scale": 0.5,
            "resize": "stretch",
        },
    },
    "data": {role: _role("train") for role in ("train", "calibration", "qat", "val")},
    "quantize": {"modules": {"head": _LEAF, "neck": {"modules": {"body": {"prepare": "horizon"}}}}},
    "stages": {
        "float": {
            "trainer": {
                "epochs": 3,
                "optimizer": {"type": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True,
                              "weight_decay": 0.1},
                "scheduler": {"type": "cosine", "warmup_steps": 1, "min_lr": 0.1},
                "freeze": ["^stem"],
                "ema": 0.9, "grad_clip": {"norm": 1.0, "value": 0.5}, "accumulate": 2,
                "batch_norm": {"before": "synchronized", "freeze_from_epoch": 1},
                "validate_epochs": 1, "checkpoint_steps": 7,
            },
            "solver": {"allow_miss": False, "ignore_extra": False},
            "batch_size_per_gpu": 4,
        },
        "calibration": {
            "trainer": {"epochs": 2}, "qconfig": "horizon_calibration", "batch_size_per_gpu": 4,
            "solver": _SOLVER, "quantize": {"modules": {"head": {"quantize_output": False}}},
        },
        "qat": {
            "trainer": {
                "steps": 9,
                "optimizer": {"type": "adamw", "lr": 0.5, "betas": [0.5, 0.6], "eps": 0.1,
                              "weight_decay": 0.1, "amsgrad": True,
                              "groups": [{"pattern": "scale$", "lr_factor": 0.5,
                                          "weight_decay": 0.5}]},
                "scheduler": {"type": "step", "epochs": [1, 2], "factor": 0.5, "warmup_steps": 3},
                "amp": "bf16", "compile": True, "channels_last": True,
                "early_stop": {"patience": 3, "min_delta": 0.5},
            },
            "qconfig": "horizon_qat", "batch_size_per_gpu": 4,
            "solver": {**_SOLVER, "pre_step": "calibration"},
            "quantize": {"modules": {"head": {"quantize_output": False}}},
        },
        "convert": {
            "opset": 17, "qdq": "uint8", "batch": 4, "float16": True, "handoff": "horizon",
            "solver": _SOLVER,
        },
        "compile": {"opt": "O3", "cores": 1},
    },
}  # fmt: skip
OTHERS = [("optimizer", o) for o in OPTIMIZERS] + [("scheduler", s) for s in SCHEDULERS]
#: Texts whose other values are a closed set.
OTHER = {
    "bayes": "bernoulli2", "net": "fcos", "rgb": "gray", "train": "val", "best": "last",
    "horizon_qat": "horizon_calibration", "horizon_calibration": "horizon_qat", "qint8": "qint16",
    "percentile": "min_max", "moving": "lsq", "tied": "copy", "O3": "O0",
    "skip": "error", "object_type_first": "module_name_first", "torch.add": "torch.mul",
    "torch.nn.ReLU": "torch.nn.ReLU6", "calibration": "float", "synchronized": "running",
    "stretch": "letterbox", "triangular": "triangular2",
    "uint8": "int8", "bf16": "fp16",
}  # fmt: skip
#: No other value of these is good where the rest stays as it is.
ALONE = (
    "/qatspec", "/data/train/type", "/data/calibration/type", "/data/qat/type", "/data/val/type",
)  # fmt: skip
FREE = ("/vars/", "/smoke/")


def leaves(value, at=""):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        pointer = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(child, dict | list):
            yield from leaves(child, pointer)
        else:
            yield pointer, child


def edited(key, value):
    if key == "ch_axis":
        return None
    if value is None:
        return "horizon_calibration"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value == 8 else value + 1
    return value * 0.99 if isinstance(value, float) else OTHER.get(value, f"{value}x")


PREPARED = ["calibration", "qat", "convert"]


def dependents(pointer):
    """The steps whose tensors the value may change by itself, by hand."""
    first, *rest = split(pointer)
    if pointer.startswith(FREE) or rest[-1:] in (["workers"], ["checkpoint_steps"]):
        return []
    if pointer.startswith("/data/val/"):
        return ["qat"]  # which ends early by its evaluations
    if rest[-1:] in (["pre_step"], ["pre_step_checkpoint"]):
        return []  # what they lead to counts: the weights that the stage starts from
    if pointer.endswith("batch_norm/before"):
        return []  # over one process, synchronized batch norms are running ones
    if first == "name":
        return ["convert", "compile"]
    if first == "march":
        return [*PREPARED, "compile"]
    if first == "seed":
        return ["float", "calibration", "qat"]
    if first == "model" and rest[0] == "input":
        # the files of convert record how pictures become the input, as there is `resize`
        return PREPARED if rest[1] in ("size", "channels", "scale") else ["convert"]
    if first == "model":
        return ["float", *PREPARED]
    if first == "data":
        own = {"train": "float", "calibration": "calibration", "qat": "qat"}[rest[0]]
        return [] if rest[1] == "batch_size" else [own]  # each stage has batch_size_per_gpu
    if first == "quantize":
        return PREPARED
    if rest == ["compile", "opt"]:
        return ["convert", "compile"]  # a hand-off states it
    prepares = rest[0] == "qat" and rest[1] in ("qconfig", "quantize")
    return ["qat", "convert"] if prepares else [rest[0]]


def judged(pointer):
    """The steps whose metrics the value changes while their tensors stand."""
    val = pointer.startswith("/data/val/") and not pointer.endswith("workers")
    return ["float", *PREPARED] if val else []


def own_keys(step):
    return digest_of_keys({k: v for k, v in step.keys.items() if not k.startswith("input:")})


def build(tmp_path, data):
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(data))
    return resolve(load(path, registry=REGISTRY), registry=REGISTRY)


CASES = [(p, v) for p, v in leaves(FULL) if p not in ALONE and not p.endswith("optimizer/type")]
CASES = [(p, v) for p, v in CASES if not p.endswith("scheduler/type") and "preset" not in p]
CASES = [(p, v) for p, v in CASES if v != "horizon"]  # the only preset of its kind


@pytest.mark.parametrize(("pointer", "value"), CASES, ids=[p for p, _ in CASES])
def test_exactly_its_steps(pointer, value, tmp_path):
    before = build(tmp_path, FULL)
    data = json.loads(json.dumps(FULL))
    keys = split(pointer)
    node = data
    for key in keys[:-1]:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = edited(keys[-1], value)
    after = build(tmp_path, data)
    pairs = list(zip(before.steps, after.steps, strict=True))
    assert [a.name for a, b in pairs if own_keys(a) != own_keys(b)] == dependents(pointer)
    assert [a.name for a, b in pairs if a.evaluation != b.evaluation] == judged(pointer)


def of_inputs():
    """FULL with `model.inputs` in place of `model.input`, every key of theirs."""
    data = json.loads(json.dumps(FULL))
    picture = {**data["model"].pop("input"), "mean": [100, 110, 120]}
    data["model"]["inputs"] = {
        "left": picture,
        "speed": {"shape": [3], "dtype": "float32", "range": [-1.0, 2.0], "scale": 0.25},
        "tokens": {"shape": [7], "dtype": "int64", "range": [0, 9]},
    }
    data["stages"]["compile"]["rt_input_type"] = {"left": "nv12"}
    del data["stages"]["convert"]["handoff"]  # it is for one picture
    return data


OF_INPUTS = of_inputs()
#: No other value of these is good where the rest stays as it is: pictures have the channels of
#: their format, and integers no scale.
BOUND = ("/channels", "/format", "/tokens/dtype", "/speed/dtype")
INPUT_CASES = [
    (p, v)
    for p, v in leaves(OF_INPUTS["model"]["inputs"], "/model/inputs")
    if not p.endswith(BOUND)
]


def dependents_of_input(pointer):
    """The steps whose tensors the value of an input may change."""
    _, _, name, key, *_ = split(pointer)
    if key == "range":
        return []
    if key == "scale":  # the Program has it
        return PREPARED
    prepared = PREPARED if key in ("size", "shape", "scale") else ["convert"]
    # `left` is fed as frames, which the compiled file converts
    return [*prepared, "compile"] if name == "left" else prepared


def edit(data, pointer, value):
    *keys, last = split(pointer)
    node = data
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(last) if isinstance(node, list) else last] = value


@pytest.mark.parametrize(("pointer", "value"), INPUT_CASES, ids=[p for p, _ in INPUT_CASES])
def test_exactly_the_steps_of_an_input(pointer, value, tmp_path):
    before = build(tmp_path, OF_INPUTS)
    data = json.loads(json.dumps(OF_INPUTS))
    other = value + 2 if isinstance(value, int) else edited(split(pointer)[-1], value)
    edit(data, pointer, other)
    after = build(tmp_path, data)
    pairs = list(zip(before.steps, after.steps, strict=True))
    assert [a.name for a, b in pairs if own_keys(a) != own_keys(b)] == dependents_of_input(pointer)
    assert all(a.evaluation == b.evaluation for a, b in pairs)


def changed(tmp_path, edit):
    before = build(tmp_path, OF_INPUTS)
    data = json.loads(json.dumps(OF_INPUTS))
    edit(data["model"]["inputs"], data["stages"]["compile"])
    after = build(tmp_path, data)
    pairs = zip(before.steps, after.steps, strict=True)
    return [a.name for a, b in pairs if own_keys(a) != own_keys(b)]


def test_the_order_of_inputs_means_nothing(tmp_path):
    def turn(inputs, _):
        turned = dict(reversed(inputs.items()))
        inputs.clear()
        inputs.update(turned)

    assert changed(tmp_path, turn) == []


def test_another_name_of_an_input_trains_again(tmp_path):
    def rename(inputs, _):
        inputs["pace"] = inputs.pop("speed")

    assert changed(tmp_path, rename) == ["float", *PREPARED]


def test_an_input_more_trains_again(tmp_path):
    def add(inputs, _):
        inputs["more"] = {"shape": [2]}

    assert changed(tmp_path, add) == ["float", *PREPARED]


def test_dtypes_of_inputs_are_those_of_the_prepared_model(tmp_path):
    def narrow(inputs, _):
        inputs["tokens"]["dtype"] = "int32"

    assert changed(tmp_path, narrow) == PREPARED


def test_what_an_input_is_fed_is_compiled_again(tmp_path):
    def feed(_, compile_):
        compile_["rt_input_type"]["left"] = "bgr"

    assert changed(tmp_path, feed) == ["compile"]


def with_part(key, value):
    """The full spec with another optimizer or scheduler in its float stage."""
    data = json.loads(json.dumps(FULL))
    data["stages"]["float"]["trainer"][key] = value
    return data


@pytest.mark.parametrize(("key", "value"), OTHERS, ids=[f"{k} {v['type']}" for k, v in OTHERS])
def test_every_key_of_an_optimizer_and_a_scheduler_counts(key, value, tmp_path):
    before = build(tmp_path, with_part(key, value))
    for pointer, leaf in leaves(value):
        if pointer == "/type":
            continue
        changed = json.loads(json.dumps(value))
        name, *index = split(pointer)
        if index:
            changed[name][int(index[0])] = edited(name, leaf)
        else:
            changed[name] = edited(name, leaf)
        after = build(tmp_path, with_part(key, changed))
        pairs = zip(before.steps, after.steps, strict=True)
        assert [a.name for a, b in pairs if own_keys(a) != own_keys(b)] == ["float"], pointer


def test_the_full_spec_has_every_key():
    names = set()

    def collect(part):
        if isinstance(part, dict):
            names.update(part.get("properties", {}))
            part = part.values()
        for value in part if not isinstance(part, str) and hasattr(part, "__iter__") else ():
            collect(value)

    collect(spec_schema())
    specs = (FULL, OF_INPUTS)
    used = {key for spec in specs for pointer, _ in leaves(spec) for key in split(pointer)}
    used |= {key for _, value in OTHERS for key in value}
    of_files = {"weights", "entry", "key_map", "fresh"}  # these need files beside the spec
    of_candidates = {"candidates", "init_from", "seeds", "epoch"}  # test_candidate_keys.py
    elsewhere = {"extends", "plugins"} | of_files | of_candidates
    assert names - used - elsewhere == set()

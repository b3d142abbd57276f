"""A dumped spec means the same: build(dump(build(x))) == build(x), whatever keys x uses."""

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings, strategies as st

from qatspec.plan import resolve
from qatspec.schema import spec_schema
from qatspec.source import load_document
from qatspec.spec import dump, load
from tests.diagnostics.plugin import fake_registry

REGISTRY = fake_registry()


def some(required=None, **optional):
    """A mapping with the required keys and any of the optional ones."""
    return st.fixed_dictionaries(required or {}, optional=optional)


def choice(*values):
    return st.sampled_from(values)


NAME = st.text("abcxyz", min_size=1, max_size=4)
ODD_TEXT = st.text("ab $#{}[]:,'\"\\-*&!|>%@`\u00e9\u2028\u00a0~1.", min_size=1, max_size=8).map(
    lambda text: text.replace("${", "$${")
)
POSITIVE = st.integers(1, 500)
FRACTION = st.floats(1e-6, 0.9)
NAMES = st.lists(NAME, max_size=3)
POSITIONS = st.lists(st.integers(0, 5), max_size=3)
CLASSES = choice("torch.nn.Conv2d", "torch.nn.ReLU", "my.net.Block")
MAPPING = st.one_of(
    st.dictionaries(CLASSES, CLASSES, max_size=2),
    st.lists(st.tuples(st.lists(CLASSES, min_size=1, max_size=2), CLASSES), max_size=2),
)
QSPEC = some(
    dtype=choice("qint4", "qint8", "qint16"),
    observer=choice("moving_average", "percentile", "min_max"),
    fake_quant=choice("fixed", "moving", "lsq", "pact"),
    averaging_constant=FRACTION,
    ch_axis=choice(None, 0),
    percentile=st.floats(90, 100),
    bins=st.integers(16, 4096),
    scale=st.one_of(st.none(), FRACTION),
)
VALUE = st.one_of(
    choice("horizon_qat", "horizon_calibration", "HorizonCalibrationQConfig", None),
    some(activation=st.one_of(st.none(), QSPEC), weight=st.one_of(st.none(), QSPEC)),
)
OPS = choice("torch.nn.Conv2d", "torch.add", "conv2d", "my.Op")
REGEXES = choice(r"head\.conv[0-9]+", ".*", "a|b", "neck")


def rules(keys):
    return st.one_of(
        st.dictionaries(keys, VALUE, max_size=3), st.lists(st.tuples(keys, VALUE), max_size=3)
    )


QCONFIG = st.one_of(
    choice("horizon_qat", "horizon_calibration"),
    some(
        **{"": VALUE},
        object_type=rules(OPS),
        module_name_regex=rules(REGEXES),
        module_name=rules(NAME),
        module_name_object_type_order=st.lists(
            st.tuples(NAME, OPS, st.integers(0, 3), VALUE), max_size=2
        ),
        precedence=choice("object_type_first", "module_name_first"),
    ),
)
_FLAT_PREPARE = {
    "preset": choice("horizon"),
    "input_scale": st.one_of(st.none(), FRACTION),
    "shared_conv": choice("tied", "copy"),
    "non_traceable_module_name": NAMES,
    "non_traceable_module_class": st.lists(CLASSES, max_size=2),
    "additional_fuser_method_mapping": MAPPING,
    "additional_qat_module_mapping": MAPPING,
    "additional_fusion_pattern": MAPPING,
    "additional_quant_pattern": MAPPING,
    "float_to_observed_custom_module_class": MAPPING,
    "observed_to_quantized_custom_module_class": MAPPING,
    "input_quantized_idxs": POSITIONS,
    "output_quantized_idxs": POSITIONS,
    "preserved_attributes": NAMES,
    "wrap": NAMES,
    "boundary": NAMES,
}
INNER_PREPARE = st.one_of(choice("horizon"), some(**_FLAT_PREPARE))
PREPARE_KEYS = {
    **_FLAT_PREPARE,
    "standalone_module_name": st.lists(
        st.one_of(NAME, some({"name": NAME}, qconfig=QCONFIG, prepare=INNER_PREPARE)), max_size=2
    ),
    "standalone_module_class": st.lists(
        st.one_of(CLASSES, some({"class": CLASSES}, qconfig=QCONFIG, prepare=INNER_PREPARE)),
        max_size=2,
    ),
}
LEAF = some(
    qconfig=QCONFIG,
    prepare=st.one_of(choice("horizon"), some(**PREPARE_KEYS)),
    quantize_input=st.booleans(),
    quantize_output=st.booleans(),
)
CHILDREN = st.dictionaries(choice("head", "neck", "body"), LEAF, min_size=1, max_size=3)
TOP = st.one_of(LEAF, CHILDREN.map(lambda c: {"modules": c}))
NESTED = CHILDREN.map(lambda c: {"modules": {"net": {"modules": c}}})
GROUPS = st.lists(
    some({"pattern": REGEXES}, lr_factor=FRACTION, weight_decay=st.one_of(st.none(), FRACTION)),
    max_size=2,
)
OPTIMIZER = st.one_of(
    some({"type": choice("sgd"), "lr": FRACTION}, momentum=FRACTION, weight_decay=FRACTION),
    some({"type": choice("sgd"), "lr": FRACTION, "momentum": FRACTION}, nesterov=st.booleans()),
    some(
        {"type": choice("adamw"), "lr": FRACTION},
        betas=st.tuples(FRACTION, FRACTION), eps=FRACTION, weight_decay=FRACTION,
        amsgrad=st.booleans(), groups=GROUPS,
    ),
    some(
        {"type": choice("adam", "nadam", "radam"), "lr": FRACTION},
        betas=st.tuples(FRACTION, FRACTION), eps=FRACTION, weight_decay=FRACTION,
        decoupled_weight_decay=st.booleans(), groups=GROUPS,
    ),
    some({"type": choice("adam"), "lr": FRACTION}, amsgrad=st.booleans()),
    some({"type": choice("nadam"), "lr": FRACTION}, momentum_decay=FRACTION),
    some(
        {"type": choice("rmsprop"), "lr": FRACTION}, alpha=FRACTION, eps=FRACTION,
        weight_decay=FRACTION, momentum=FRACTION, centered=st.booleans(),
    ),
    some(
        {"type": choice("adagrad"), "lr": FRACTION}, lr_decay=FRACTION, eps=FRACTION,
        weight_decay=FRACTION, initial_accumulator_value=FRACTION,
    ),
    some(
        {"type": choice("adadelta"), "lr": FRACTION}, rho=FRACTION, eps=FRACTION,
        weight_decay=FRACTION,
    ),
    some(
        {"type": choice("adamax"), "lr": FRACTION}, betas=st.tuples(FRACTION, FRACTION),
        eps=FRACTION, weight_decay=FRACTION,
    ),
    some(
        {"type": choice("asgd"), "lr": FRACTION}, lambd=FRACTION, alpha=FRACTION, t0=POSITIVE,
        weight_decay=FRACTION,
    ),
    some(
        {"type": choice("rprop"), "lr": FRACTION}, etas=st.tuples(FRACTION, FRACTION),
        step_sizes=st.tuples(FRACTION, FRACTION),
    ),
    some(
        {"type": choice("adafactor"), "lr": FRACTION}, beta2_decay=FRACTION.map(lambda x: -x),
        eps=st.tuples(st.one_of(st.none(), FRACTION), FRACTION), d=st.floats(1, 9),
        weight_decay=FRACTION,
    ),
)  # fmt: skip
SCHEDULER = st.one_of(
    some({"type": choice("constant")}, warmup_steps=POSITIVE),
    some({"type": choice("exponential"), "factor": FRACTION}, warmup_steps=POSITIVE),
    some({"type": choice("poly")}, power=FRACTION, warmup_steps=POSITIVE),
    some(
        {"type": choice("plateau")},
        factor=FRACTION, patience=st.integers(0, 9), min_delta=FRACTION, min_factor=FRACTION,
        warmup_steps=POSITIVE,
    ),
    some(
        {"type": choice("one_cycle")},
        rise=FRACTION, start_factor=FRACTION, end_factor=FRACTION,
    ),
    some({"type": choice("cosine")}, warmup_steps=POSITIVE, min_lr=FRACTION),
    some(
        {"type": choice("step"), "epochs": st.lists(POSITIVE, min_size=1, max_size=3)},
        factor=FRACTION, warmup_steps=POSITIVE,
    ),
    some(
        {"type": choice("linear"), "epochs": POSITIVE},
        start_factor=FRACTION, end_factor=FRACTION, warmup_steps=POSITIVE,
    ),
    some(
        {"type": choice("low_start"), "epochs": POSITIVE}, factor=FRACTION, warmup_steps=POSITIVE
    ),
    some(
        {"type": choice("cosine_restarts"), "epochs": POSITIVE},
        growth=POSITIVE, min_lr=FRACTION, warmup_steps=POSITIVE,
    ),
    some(
        {"type": choice("cyclic"), "epochs": POSITIVE},
        low_factor=FRACTION, mode=choice("triangular", "triangular2", "exp_range"),
        gamma=FRACTION, warmup_steps=POSITIVE,
    ),
)  # fmt: skip
LENGTH = st.one_of(some({"epochs": POSITIVE}), some({"steps": POSITIVE}))
TRAINER_KEYS = {
    "scheduler": SCHEDULER,
    "ema": st.one_of(st.none(), FRACTION),
    "grad_clip": st.one_of(
        st.none(),
        FRACTION,
        some(norm=st.one_of(st.none(), FRACTION), value=st.one_of(st.none(), FRACTION)),
    ),
    "freeze": st.lists(REGEXES, max_size=2),
    "accumulate": st.integers(1, 4),
    "amp": st.one_of(st.none(), choice("bf16", "fp16")),
    "compile": st.booleans(),
    "channels_last": st.booleans(),
    "early_stop": st.one_of(st.none(), some({"patience": POSITIVE}, min_delta=FRACTION)),
    "batch_norm": st.one_of(
        choice("running", "synchronized", "frozen"),
        some({"freeze_from_epoch": st.integers(0, 9)}, before=choice("running", "synchronized")),
    ),
    "validate_epochs": POSITIVE,
    "checkpoint_steps": POSITIVE,
}
TRAINER = st.tuples(LENGTH, some({"optimizer": OPTIMIZER}, **TRAINER_KEYS)).map(
    lambda parts: {**parts[0], **parts[1]}
)
SOLVER_KEYS = {
    "pre_step_checkpoint": choice("best", "last"),
    "allow_miss": st.booleans(),
    "ignore_extra": st.booleans(),
}
ROLE = some(
    {"type": choice("digits"), "batch_size": POSITIVE},
    params=some(split=choice("train", "val"), root=ODD_TEXT),
    workers=st.integers(0, 4),
    broken=choice("skip", "error"),
)
QUANTIZING = {"batch_size_per_gpu": POSITIVE, "quantize": TOP}


@st.composite
def image(draw):
    made = draw(
        some(
            {"size": st.tuples(POSITIVE, POSITIVE)},
            channels=POSITIVE, format=choice("rgb", "bgr", "yuv444", "gray"),
            resize=choice("letterbox", "stretch"), scale=st.one_of(st.none(), FRACTION),
        )
    )  # fmt: skip
    count = made.get("channels", 3)
    of_each = st.lists(FRACTION, min_size=count, max_size=count)
    numbers = st.one_of(FRACTION, of_each) if count <= 4 else FRACTION
    return {**made, **draw(some(mean=numbers, std=numbers))}


CHANNELS = {"rgb": 3, "bgr": 3, "yuv444": 3, "gray": 1}
NUMBER = st.floats(-100, 100)


@st.composite
def named_picture(draw):
    """A picture of `model.inputs`, which has the channels of its format."""
    made = draw(image())
    made["channels"] = CHANNELS[made.get("format", "rgb")]
    for key in ("mean", "std"):
        if isinstance(made.get(key), list):
            made[key] = (made[key] * 3)[: made["channels"]] or [1.0] * made["channels"]
    return made


TENSOR = st.one_of(
    some(
        {"shape": st.lists(POSITIVE, min_size=1, max_size=4)},
        dtype=choice("float32"), scale=st.one_of(st.none(), FRACTION),
        range=st.tuples(NUMBER, NUMBER).map(sorted),
    ),
    some(
        {"shape": st.lists(POSITIVE, min_size=1, max_size=4), "dtype": choice("int32", "int64")},
        range=st.tuples(POSITIVE, POSITIVE).map(sorted),
    ),
)  # fmt: skip
INPUTS = st.one_of(
    image().map(lambda found: {"input": found}),
    st.dictionaries(NAME, st.one_of(named_picture(), TENSOR), min_size=1, max_size=3).map(
        lambda found: {"inputs": found}
    ),
)


@st.composite
def tried(draw, trainer, stages):
    """Keys that run one of the stages in several variants. trainer: of float."""
    name = draw(st.sampled_from([n for n in stages if n in ("calibration", "qat")]))
    kept = ["best", "last", *([{"epoch": trainer["epochs"]}] if "epochs" in trainer else [])]
    keys = draw(
        some(
            seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
            init_from=st.lists(st.sampled_from(kept), min_size=1, max_size=2, unique_by=json.dumps),
            candidates=st.dictionaries(
                choice("a", "b_2"), some(trainer=st.just({})), min_size=1, max_size=2
            ),
            seed=st.integers(0, 9),
        )
    )
    stages[name].update(keys)
    if "init_from" in keys:
        for stage in stages.values():  # `init_from` says it
            stage.get("solver", {}).pop("pre_step_checkpoint", None)


@st.composite
def specs(draw):
    """A spec that loads, with any key of the language that stands in a single file."""
    top = draw(st.one_of(TOP, NESTED))
    own = {} if "modules" in top else QUANTIZING  # a stage's own keys stand beside no `modules`
    stages = {
        "calibration": some(
            {"trainer": LENGTH, "qconfig": QCONFIG}, solver=some(**SOLVER_KEYS), **own
        ),
        "qat": some(
            {"trainer": TRAINER, "qconfig": QCONFIG},
            solver=some(pre_step=choice("calibration", None), **SOLVER_KEYS), **own,
        ),
        "convert": some(
            opset=st.integers(17, 21), qdq=choice("uint8", "int8"), batch=POSITIVE,
            float16=st.booleans(), solver=some(**SOLVER_KEYS)
        ),
        "compile": some(opt=choice("O0", "O3"), cores=POSITIVE),
    }  # fmt: skip
    count = draw(st.integers(0, 4))
    chosen = {name: draw(stages[name]) for name in list(stages)[:count]}
    of_float = draw(some({"trainer": TRAINER}, batch_size_per_gpu=POSITIVE))
    if chosen:
        draw(tried(of_float["trainer"], chosen))
    spec = {
        "qatspec": 1,
        "name": draw(NAME),
        "march": draw(choice("bayes", "bernoulli2")),
        "model": {
            "type": draw(choice("net", "fcos")),
            "params": draw(some({"num_classes": POSITIVE}, width=st.floats(0.1, 4))),
            **draw(INPUTS),
        },
        "data": draw(some({"train": ROLE, "val": ROLE}, calibration=ROLE)),
        "stages": {
            "float": of_float,
            **chosen,
        },
        **draw(some(seed=st.integers(0, 2**32 - 1), quantize=st.just(top))),
    }  # fmt: skip
    convert = chosen.get("convert", {})
    if "opset" in convert and any(d in json.dumps(spec) for d in ("qint4", "qint16")):
        convert["opset"] = 21  # the first that holds them
    return dict(draw(st.permutations(list(spec.items()))))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=specs())
def test_dump_means_the_same(tmp_path, data):
    first, second, third = (tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml"))
    first.write_text(json.dumps(data, indent=1))  # YAML 1.2 holds JSON
    spec = load(first, registry=REGISTRY)
    second.write_text(dump(spec))
    again = load(second, registry=REGISTRY)
    assert again == spec
    assert dump(again) == dump(spec)
    third.write_text(dump(spec, places=True))
    assert load_document(third).data == again.document.data
    plans = [resolve(found, registry=REGISTRY) for found in (spec, again)]
    assert [s.digest for s in plans[0].steps] == [s.digest for s in plans[1].steps]


def test_the_random_specs_use_every_key():
    """A key that is added to the language is added above, or named here with the reason."""
    names = set()

    def collect(part):
        if isinstance(part, dict):
            names.update(part.get("properties", {}))
            for value in part.values():
                collect(value)
        elif isinstance(part, list):
            for value in part:
                collect(value)

    collect(spec_schema())
    text = Path(__file__).read_text()
    gone = {"extends", "vars", "smoke", "plugins"}  # resolved, or in need of files beside the spec
    other_files = {"weights", "entry", "key_map", "fresh"}
    gone.add("handoff")  # for models of one picture alone
    unused = {n for n in names if f'"{n}"' not in text and f"{n}=" not in text}
    assert unused - gone - other_files == set()

"""Compiled files that are fed frames: same integers as the Program's, whatever the march."""

import json

import numpy as np
import pytest

from qatspec.api import InputSpec, ProgramBuilder, TensorSpec, compile as compile_program
from qatspec.backend import perf
from qatspec.diag import DiagnosticError
from qatspec.program import Artifact, interpret_frames
from qatspec.program.container import Damaged, pack, unpack
from qatspec.referee import interpret

MARCHES = ("bernoulli2", "bayes", "onnxruntime")
KINDS = ("rgb", "bgr", "yuv444", "nv12")


@pytest.fixture
def program(net):
    made = net()
    x = made.input(3, 8, 12)
    return made.finish(made.conv(made.conv(x, 8, stride=2), 4))


def image(**fields):
    return InputSpec(**{"size": (8, 12), **fields})


def compiled(program, march="bayes", kind="nv12", layout=None, **fields):
    options = {"rt_input_type": kind, **({"rt_input_layout": layout} if layout else {})}
    return compile_program(program, march, image=image(**fields), **options)


def camera(artifact, count=2):
    (port,) = artifact.inputs
    return np.random.default_rng(4).integers(0, 256, (count, *port.shape)).astype(np.uint8)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_the_programs_integers_out(program, march, kind):
    if march == "onnxruntime":
        pytest.importorskip("onnxruntime")
    layout = None if kind == "nv12" else "NHWC"
    artifact = Artifact.from_bytes(compiled(program, march, kind, layout).to_bytes())
    frames = camera(artifact)
    ints = interpret_frames(artifact.runtime_input, frames)
    for got, wanted in zip(artifact.run(frames), interpret(program, ints), strict=True):
        assert np.array_equal(got, wanted)


def test_integers_in_another_layout(program):
    artifact = compile_program(program, "bayes", rt_input_layout="NHWC")
    (port,) = artifact.inputs
    assert (port.dtype, port.shape, port.layout) == ("int8", (8, 12, 3), "NHWC")
    assert np.array_equal(port.scale, program.inputs[0].scale)
    images = np.random.default_rng(0).normal(0, 0.5, (2, 3, 8, 12)).astype(np.float32)
    given = artifact.quantize(images)
    assert np.array_equal(given[0].transpose(0, 3, 1, 2), program.quantize(images)[0])
    assert np.array_equal(artifact.run(*given)[0], program.run(*program.quantize(images))[0])


def test_the_default_is_the_programs_own_bytes(program):
    plain = compile_program(program, "bayes")
    spelt = compiled(program, kind="featuremap", layout="NCHW")
    assert spelt.to_bytes() == plain.to_bytes()
    assert "runtime_input" not in plain.manifest


def test_quantize_takes_images_and_gives_frames(program):
    artifact = compiled(program, kind="yuv444", format="yuv444")
    images = np.random.default_rng(0).uniform(-1, 0.99, (2, 3, 8, 12)).astype(np.float32)
    (frames,) = artifact.quantize(images)
    assert frames.dtype == np.uint8
    assert np.abs((frames.astype(np.float32) - 128) / 128 - images).max() <= 0.5 / 128
    assert artifact.real_inputs == (artifact.runtime_input.port,)


def test_other_arrays_than_frames_are_refused(program):
    artifact = compiled(program)
    for wrong in (camera(artifact).astype(np.int8), camera(artifact)[:, :-1]):
        with pytest.raises(DiagnosticError) as caught:
            artifact.run(wrong)
        assert caught.value.diagnostics[0].code == "QS712"


def test_the_report_counts_the_bytes_of_frames(program):
    """A channel of int8 is padded on its way to the chip, a frame is not; nv12 is half of rgb."""
    loaded = {
        kind: perf(compiled(program, kind=kind))["summary"]["loaded bytes per frame"]
        for kind in ("rgb", "nv12")
    }
    assert loaded["rgb"] - loaded["nv12"] == 8 * 12 * 3 // 2
    features = perf(compiled(program))["summary"]["input features"]
    assert features[1] == ["image", "uint8", "12x12"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "rgb", "format": "yuv444"}, "trained on yuv444 cannot be fed rgb"),
        ({"kind": "nv12", "layout": "NHWC"}, "layout of its own"),
        ({"kind": "rgb", "size": (8, 8)}, "not one image of (8, 8)"),
        ({"kind": "rgb", "channels": 4}, "4 channels"),
        ({"kind": "rgb", "mean": (1.0, 2.0)}, "`mean` has 2 entries"),
    ],
)
def test_what_makes_no_sense(program, given, words):
    with pytest.raises(DiagnosticError) as caught:
        compiled(program, **given)
    (found,) = caught.value.diagnostics
    assert (
        found.code == ("QS616" if "mean" in given else "QS806")
        and words in found.message
        and found.help
    )


def test_what_the_model_is_trained_on_must_be_told(program):
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "bayes", rt_input_type="nv12")
    assert caught.value.diagnostics[0].code == "QS806"


def test_odd_sizes_have_no_nv12(net):
    made = net()
    program = made.finish(made.conv(made.input(3, 7, 12), 4))
    with pytest.raises(DiagnosticError) as caught:
        compiled(program, size=(7, 12))
    assert "odd" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["runtime_input"].update(type="rgb"),
        lambda header: header["runtime_input"]["tables"][0].__setitem__(3, 7),
        lambda header: header["runtime_input"].pop("port"),
        lambda header: header["runtime_input"].update(mean=float(1 << 40)),
        lambda header: header["inputs"][0].update(shape=[12, 14]),
        lambda header: header.pop("runtime_input"),
        lambda header: header.update(runtime_input=[]),
    ],
)
def test_a_changed_manifest_is_damage(program, change):
    header, sections = unpack(b"QSBIN\0", 1, compiled(program).to_bytes())
    header = json.loads(json.dumps(header))
    change(header)
    with pytest.raises(Damaged):
        Artifact.from_bytes(pack(b"QSBIN\0", 1, header, sections))


SEVERAL = {
    "rgb": InputSpec(size=(8, 12)),
    "speed": TensorSpec(shape=(6,)),
    "depth": InputSpec(size=(8, 12), format="gray", channels=1, mean=100, std=50),
}


@pytest.fixture
def fused():
    """A program of two pictures and a vector."""
    builder = ProgramBuilder("fused", None)
    sums = []
    for name, given in SEVERAL.items():
        x = builder.input(name, "int8", given.shape, 1 / 64)
        size = int(np.prod(given.shape))
        flat = builder.emit("reshape", (x,), name=f"{name}.flat", scale=1 / 64, shape=(size,))
        weight = builder.const(f"{name}.w", "int8", np.arange(4 * size).reshape(4, size) % 7 - 3)
        sums.append(builder.emit("linear", (flat, weight), name=f"{name}.y", scale=1 / 64))
    return builder.finish(sums)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize(
    ("asked", "layout"),
    [
        ({"rgb": "nv12"}, None),
        ({"rgb": "nv12", "depth": "gray"}, None),
        ({"rgb": "bgr", "depth": "gray"}, "NHWC"),
        ({"depth": "gray"}, {"rgb": "NHWC"}),
    ],
)
def test_each_port_is_fed_its_own_frames(fused, march, asked, layout):
    options = {"rt_input_type": asked, **({"rt_input_layout": layout} if layout else {})}
    artifact = compile_program(fused, march, image=SEVERAL, **options)
    artifact = Artifact.from_bytes(artifact.to_bytes())
    assert [port.name for port in artifact.inputs] == list(SEVERAL)
    rng = np.random.default_rng(2)
    fed = {f.port.name: f for f in artifact.runtime_inputs}
    assert {name for name, f in fed.items() if f.kind != "featuremap"} == set(asked)
    frames = [
        rng.integers(0, 120, (2, *port.shape)).astype(
            np.uint8 if port.dtype == "uint8" else np.int8
        )
        for port in artifact.inputs
    ]
    ints = [
        interpret_frames(fed[port.name], x) if port.name in fed else x
        for port, x in zip(artifact.inputs, frames, strict=True)
    ]
    wanted = interpret(fused, *ints)
    for got, expected in zip(artifact.run(*frames), wanted, strict=True):
        assert np.array_equal(got, expected)
    if march != "onnxruntime":
        assert perf(artifact)
    floats = [rng.normal(0, 0.5, (1, *port.shape)).astype(np.float32) for port in fused.inputs]
    own = [f.dtype for f in artifact.quantize(*floats)]
    assert [d == np.uint8 for d in own] == [port.dtype == "uint8" for port in artifact.inputs]


def test_a_vector_is_not_fed_frames(fused):
    with pytest.raises(DiagnosticError) as caught:
        compile_program(fused, "bayes", image=SEVERAL, rt_input_type={"speed": "rgb"})
    assert caught.value.diagnostics[0].code == "QS806"


def test_an_input_that_the_host_reads_is_not_fed_frames(fused):
    inputs = {**SEVERAL, "seen": InputSpec(size=(8, 12))}
    with pytest.raises(DiagnosticError, match="on the host"):
        compile_program(fused, "bayes", image=inputs, rt_input_type={"seen": "rgb"})


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["runtime_inputs"].pop(),
        lambda header: header["runtime_inputs"].append(header["runtime_inputs"][0]),
        lambda header: header["runtime_inputs"][0]["port"].update(name="none"),
        lambda header: header["inputs"].reverse() or header["inputs"][0].update(name="rgb"),
    ],
)
def test_damage_of_several_is_found(fused, change):
    asked = {"rgb": "rgb", "depth": "gray"}
    artifact = compile_program(fused, "bayes", image=SEVERAL, rt_input_type=asked)
    header, sections = unpack(b"QSBIN\0", 1, artifact.to_bytes())
    header = json.loads(json.dumps(header))
    change(header)
    with pytest.raises(Damaged):
        Artifact.from_bytes(pack(b"QSBIN\0", 1, header, sections))

"""How fast onnxruntime runs what qatspec writes, against float32 of the same net there.

    python -m tests.bench.deploy_speed [--net resnet18 ...] [--size N] [--threads 1] [--rounds 15]
        [--peers fx_qnnpack brevitas ...] [--venvs FOLDER]

Nets of random weights, batch 1, calibrated on one made-up picture: `resnet18` and `lite0` (224),
`fcos` (EfficientNet-B0, 512) and `deeplab` (EfficientNet-m2, 256x512). What is timed:

    float32       the same net without fake-quants, through the same writer
    qat int8      the QAT ONNX as other marches get it (int8, zero point 0); default session
    qat int8 opt  the same with the session option `session.qdqisint8allowed`
    qat uint8     the QAT ONNX of other marches with `convert: {qdq: uint8}`; default session
    qat           the QAT ONNX of `march: onnxruntime` with `qconfig: onnxruntime_qat` (uint8, zero
                  point 0 behind a relu, else 128); default session
    bin fast      the artifact of the same, `opt: fast`
    bin exact     the same with `opt: exact`
    openvino f32  the float32 file of the first row in OpenVINO, where that is installed
    bin openvino  the artifact of `march: openvino` there; onnxruntime does not run in these two
    program       the executor of qatspec (numpy and torch), for scale
    <peer>        what another quantizer makes of the same float net (tests/bench/peers)

All run in turn in every round, twice each: the second run, whose weights may lie in the cache as in
a steady loop, is timed. A row gives float32's time over its own (above
1 is faster than float32), by CPU time and by the clock: the median over the rounds and the
quartiles. `worst` and `mean` are distances of the outputs to those of the fake-quant model (QAT
ONNX) or the Program (bin), in percent of the largest number there. Then the node types of
onnxruntime's optimized graph, so that what it leaves in float shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import platform
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.utils._pytree import tree_leaves

from qatspec.backend import compile as compile_program
from qatspec.export import export_qat_onnx
from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.program import Program
from qatspec.registry import registry
from qatspec.schema import with_defaults
from tests.bench.peers.environments import PACKAGES, export
from tests.zoo.zoo import nets

HEAD = {"prepare": "horizon", "quantize_input": False, "quantize_output": False}
NECK = {"prepare": "horizon", "quantize_input": False}
BACKBONE = {"prepare": "horizon"}


def _resnet18() -> torch.nn.Module:
    (found,) = (net for net in nets() if net.name == "resnet18")
    return found.build(**found.public)


def _plugin(name: str, **params: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        record = registry().model(name)
        return record.build(with_defaults(record.params, params))

    return build


#: name -> (build, picture (H, W), quantize.modules of its spec or None)
NETS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, int], Any]] = {
    "resnet18": (_resnet18, (224, 224), None),
    "lite0": (
        _plugin("efficientnet", num_classes=1000, backbone={"variant": "lite0"}),
        (224, 224),
        {"backbone": BACKBONE, "head": HEAD},
    ),
    "fcos": (
        _plugin("fcos", num_classes=80, backbone={"type": "efficientnet", "variant": "b0"}),
        (512, 512),
        {"backbone": BACKBONE, "neck": NECK, "head": HEAD},
    ),
    "deeplab": (
        _plugin(
            "deeplabv3plus",
            num_classes=19,
            backbone={"type": "efficientnet", "variant": "m2"},
            head={"channels": 256, "dilations": [1, 2, 4, 4], "repeats": [1, 1, 1, 2]},
        ),
        (256, 512),
        {"backbone": BACKBONE, "decode_head": HEAD},
    ),
}


@dataclasses.dataclass
class Row:
    """Something that runs. kinds: node types of its optimized graph."""

    run: Callable[[], list[np.ndarray]]
    kinds: Counter[str] | None = None
    cpu: list[float] = dataclasses.field(default_factory=list)
    wall: list[float] = dataclasses.field(default_factory=list)


def session(path: Path, feeds: list[np.ndarray], threads: int, **settings: str) -> Row:
    """A file in onnxruntime, without spinning threads, which would count as CPU time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in settings.items():
        options.add_session_config_entry(f"session.{key}", value)
    optimized = path.with_suffix(".optimized.onnx")
    options.optimized_model_filepath = str(optimized)
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {port.name: x for port, x in zip(made.get_inputs(), feeds, strict=True)}
    kinds = Counter(node.op_type for node in onnx.load(optimized).graph.node)
    return Row(lambda: list(made.run(None, feed)), kinds)


def openvino_rows(
    program: Program,
    float_file: Path,
    images: list[np.ndarray],
    ints: list[np.ndarray],
    threads: int,
) -> dict[str, Row]:
    """float32 and the compiled artifact in OpenVINO on the CPU; none where it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        print("OpenVINO is not installed: its rows are left out")
        return {}
    from qatspec_openvino.march import open_artifact, open_model, runner

    in_float = open_model(float_file.read_bytes(), {"device": "CPU", "precision": "f32"}, threads)
    request = in_float.create_infer_request()
    artifact = compile_program(program, "openvino")
    model = runner(open_artifact(artifact, threads), artifact)
    return {
        "openvino f32": Row(lambda: list(request.infer(images).values())),
        "bin openvino": Row(lambda: model(*ints)),
    }


def _built(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """The net with the same random weights every time."""
    torch.manual_seed(0)
    return build().eval()


def _calibrated(build: Callable[[], torch.nn.Module], x: torch.Tensor, **options: Any) -> Prepared:
    prepared = prepare(_built(build), (x,), **options)
    with torch.no_grad():
        set_stage(prepared, "calibration")
        prepared.model(x)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    return prepared


def peer_row(
    peer: str, name: str, x: torch.Tensor, threads: int, folder: Path, venvs: Path
) -> dict[str, Row]:
    """The row of a peer; none, and a line that says why, where it cannot quantize the net."""
    try:
        path = export(peer, _built(NETS[name][0]), x, venvs, folder)
    except RuntimeError as problem:
        print(f"{name}: {str(problem)[:200]}")
        return {}
    return {peer: session(path, [x.numpy()], threads)}


def rows(
    name: str, size: tuple[int, int], threads: int, folder: Path
) -> tuple[dict[str, Row], Prepared, Program, torch.Tensor]:
    build, _, modules = NETS[name]
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    given = {"modules": modules} if modules else {"quantize_output": False}
    prepared = _calibrated(build, x, qconfig="onnxruntime_qat", march="onnxruntime", **given)
    program = lower(prepared, (x,))
    parts = {"modules": {name: {} for name in modules}} if modules else {}
    files = {
        "float": prepare(_built(build), (x,), qconfig={"": None}, **parts),
        "uint8": prepared,
        "int8": _calibrated(build, x, qconfig="horizon_qat", **given),
    }
    for end, what in files.items():
        export_qat_onnx(what, folder / f"{end}.onnx", (x,))
    export_qat_onnx(files["int8"], folder / "unsigned.onnx", (x,), qdq="uint8")
    images, ints = [x.numpy()], program.quantize(x.numpy())
    found = {
        "float32": session(folder / "float.onnx", images, threads),
        "qat int8": session(folder / "int8.onnx", images, threads),
        "qat int8 opt": session(folder / "int8.onnx", images, threads, qdqisint8allowed="1"),
        "qat uint8": session(folder / "unsigned.onnx", images, threads),
        "qat": session(folder / "uint8.onnx", images, threads),
    }
    for opt in ("fast", "exact"):
        artifact = compile_program(program, "onnxruntime", opt=opt)
        path = folder / f"{opt}.onnx"
        path.write_bytes(artifact.sections["model.onnx"])
        found[f"bin {opt}"] = session(path, ints, threads)
    found |= openvino_rows(program, folder / "float.onnx", images, ints, threads)
    found["program"] = Row(lambda: program.run(*ints))
    return found, prepared, program, x


def time_in_turn(found: dict[str, Row], rounds: int) -> None:
    for number in range(rounds + 1):
        for row in found.values():
            row.run()
            wall, cpu = time.perf_counter(), time.process_time()
            row.run()
            if number:  # the first warms up
                row.cpu.append(time.process_time() - cpu)
                row.wall.append(time.perf_counter() - wall)


def spread(base: list[float], own: list[float]) -> str:
    low, middle, high = statistics.quantiles([b / o for b, o in zip(base, own, strict=True)], n=4)
    return f"{middle:5.2f} ({low:.2f}-{high:.2f})"


def distance(outputs: list[np.ndarray], wanted: list[np.ndarray]) -> str:
    """Largest and mean distance over all outputs, in % of the largest number of each."""
    far = [
        100 * np.abs(a.astype(np.float64) - b) / np.abs(b.astype(np.float64)).max()
        for a, b in zip(outputs, wanted, strict=True)
    ]
    flat = np.concatenate([f.reshape(-1) for f in far])
    return f"{flat.max():7.2f} %{flat.mean():8.3f} %"


def report(
    name: str, size: tuple[int, int], threads: int, rounds: int, peers: list[str], venvs: Path
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, prepared, program, x = rows(name, size, threads, Path(folder))
        for peer in peers:
            found |= peer_row(peer, name, x, threads, Path(folder), venvs)
        time_in_turn(found, rounds)
        with torch.no_grad():
            fake = [leaf.numpy() for leaf in tree_leaves(prepared.model(x))]
        integers = program.run(*program.quantize(x.numpy()))
        print(f"\n{name} {size[0]}x{size[1]}, {threads} thread(s), {rounds} rounds")
        print(
            f"{'':14}{'ms CPU':>8}  {'by CPU time':20}{'by the clock':20}{'worst':>9}{'mean':>10}"
        )
        base = found["float32"]
        for label, row in found.items():
            far = ""
            if label.startswith("qat"):
                far = distance(row.run(), fake)
            elif label.startswith("bin"):
                far = distance(row.run(), integers)
            print(
                f"{label:14}{1000 * statistics.median(row.cpu):8.1f}  "
                f"{spread(base.cpu, row.cpu):20}{spread(base.wall, row.wall):20}{far}"
            )
        for label, row in found.items():
            if row.kinds:
                kinds = ", ".join(f"{kind} {count}" for kind, count in row.kinds.most_common())
                print(f"  {label}: {kinds}")


def cpu() -> str:
    """The processor, and whether it has VNNI: without it, uint8 x int8 may saturate."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = set(text.split())
    vnni = sorted(flags & {"avx512_vnni", "avx_vnni"}) or "no"
    lines = [line for line in text.splitlines() if line.startswith("model name")]
    model = lines[0].partition(":")[2].strip() if lines else platform.processor()
    return f"{model or platform.machine()}; VNNI: {', '.join(vnni) if vnni != 'no' else vnni}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=NETS, nargs="+", default=list(NETS))
    parser.add_argument("--size", type=int, nargs="+", help="H W, or one side of a square")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", choices=PACKAGES, nargs="*", default=[])
    parser.add_argument("--venvs", type=Path, default=Path("peers"), help="their environments")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    print(f"{cpu()}; onnxruntime {onnxruntime.__version__}")
    for name in given.net:
        size = (given.size[0], given.size[-1]) if given.size else NETS[name][1]
        report(name, size, given.threads, given.rounds, given.peers, given.venvs.absolute())


if __name__ == "__main__":
    main()

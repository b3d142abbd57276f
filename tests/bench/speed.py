"""What quantization costs in time: ratios to the float model, measured interleaved in one process.

    python tests/bench/speed.py step              steps of training, by mode
    python tests/bench/speed.py step --peer       beside torch.ao's FX mode
    python tests/bench/speed.py compiled          steps under torch.compile (needs a C++ compiler)
    python tests/bench/speed.py calibration       calibration and fake-quant evaluation
    python tests/bench/speed.py step --threads 1 --rounds 10 --case lite0:8
    python -m tests.bench.speed integers          the executor of Programs
    python -m tests.bench.speed integers --case resnet18:1 --case vit_tiny:1

Each figure is a median over rounds, in which every kind runs once after the other: wall clock, and
in brackets the time of the CPU, which a loaded machine changes less. Ratios of steps are above 1
(time over float's), those of calibration below 1 (images a second over float evaluation's). Those
of integers are the time of `program.run` over that of the float model in torch's eager mode, batch
1 at the sizes of deploy_speed.py (and `vit_tiny` at 224), for the march of `--march`. `compiled`
compares compiled steps with those of the compiled float model, says how long the first step took,
with what is compiled in it, and how far the compiled model's outputs in evaluation are from those
of its eager mode, in percent of the largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping

import torch
from qatspec_vision.efficientnet import EfficientNet
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.fold import freeze_batch_norm
from qatspec.types import QConfig, QSpec

OBSERVERS = ("min_max", "percentile", "mse", "kl", "mix")


class _Block(nn.Module):
    """A basic block of ResNet (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.down = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        ) if changes else nn.Identity()  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.down(x)).relu()


class ResNet18(nn.Module):
    """The body of ResNet-18 with its pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        widths = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        self.body = nn.Sequential(
            *(b for i, o, s in widths for b in (_Block(i, o, s), _Block(o, o, 1)))
        )
        self.head = nn.Linear(512, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Lite0(nn.Module):
    """EfficientNet-Lite0 with a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = EfficientNet("lite0", stem=32, strides=(32,), in_channels=3, padding="same")
        self.head = nn.LazyLinear(100)
        self(torch.zeros(2, 3, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[-1].mean((2, 3)))


NETS: Mapping[str, Callable[[], nn.Module]] = {"lite0": Lite0, "resnet18": ResNet18}


def calibrated(net: nn.Module, x: Tensor, qconfig: str) -> nn.Module:
    """`net` prepared and in training with scales of one batch."""
    prepared = prepare(net, (x[:1],), qconfig=qconfig)
    set_stage(prepared, "calibration")
    with torch.no_grad():
        prepared.model(x)
    set_stage(prepared, "qat")
    return prepared.model


def torchs(net: nn.Module, x: Tensor) -> nn.Module:
    """`net` by torch.ao's FX mode with its qnnpack defaults."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    mapping = get_default_qat_qconfig_mapping("qnnpack")
    return prepare_qat_fx(net.train(), mapping, (x[:1],))


def step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    model.zero_grad()
    model(x).square().mean().backward()


def _trained(net: Callable[[], nn.Module], x: Tensor) -> dict[str, nn.Module]:
    """Kind of training -> a model for it."""
    frozen = calibrated(net(), x, "horizon_calibrated")
    freeze_batch_norm(frozen)
    return {
        "float": net().train(),
        "frozen": frozen,
        "running": calibrated(net(), x, "horizon_calibrated"),
        "moving": calibrated(net(), x, "horizon_qat"),
    }


def steps(net: Callable[[], nn.Module], x: Tensor, peer: bool) -> dict[str, Callable[[], None]]:
    """Kind of training -> one step of it."""
    models = _trained(net, x)
    if peer:
        models["torch.ao"] = torchs(net(), x)
    return {kind: lambda model=model: step(model, x) for kind, model in models.items()}


def compiled(net: Callable[[], nn.Module], x: Tensor, rounds: int) -> list[str]:
    """A cell for each kind of training that is compiled, the float model's first."""
    models = _trained(net, x)
    del models["moving"]
    kinds, first, apart = {}, {}, {}
    for kind, model in models.items():
        torch._dynamo.reset()
        made = torch.compile(model, fullgraph=True)
        kinds[kind] = lambda model=made: step(model, x)
        start = time.perf_counter()
        kinds[kind]()
        first[kind] = time.perf_counter() - start
        apart[kind] = _apart(model, made, x)
    taken = seconds(kinds, rounds)
    wall, cpu = taken["float"]
    return [
        f"{kind} {w / wall:.2f} ({c / cpu:.2f}), first step {first[kind]:.0f} s, "
        f"outputs {apart[kind]:.2g} % apart"
        for kind, (w, c) in taken.items()
    ]


def _apart(model: nn.Module, made: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The largest distance of compiled outputs in evaluation, in percent of the largest output."""
    model.eval()
    with torch.no_grad():
        eager = model(x)
        apart = (made(x) - eager).abs().max() / eager.abs().max() * 100
    model.train()
    return float(apart)


def forwards(net: Callable[[], nn.Module], x: Tensor) -> dict[str, Callable[[], None]]:
    """Observer, and "eval" for a fake-quant evaluation -> one forward."""

    def forward(model: nn.Module) -> None:
        with torch.no_grad():
            model(x)

    made = {"float": net().eval()}
    for observer in OBSERVERS:
        activation = QSpec(observer=observer, fake_quant="fixed")
        qconfig = QConfig(activation=activation, weight=QSpec(ch_axis=0))
        prepared = prepare(net(), (x[:1],), qconfig=qconfig)
        set_stage(prepared, "calibration")
        made[observer] = prepared.model
    judged = calibrated(net(), x, "horizon_calibrated")
    made["eval"] = judged.eval()
    return {kind: lambda model=model: forward(model) for kind, model in made.items()}


def seconds(kinds: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds (wall clock, CPU) of each kind."""
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for run in kinds.values():
        run(), run()
    for _ in range(rounds):
        for kind, run in kinds.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            taken[kind].append((time.perf_counter() - start, time.process_time() - used))
    return {
        kind: (statistics.median(w for w, _ in times), statistics.median(c for _, c in times))
        for kind, times in taken.items()
    }


def integers(name: str, batch: int, march: str | None) -> dict[str, Callable[[], object]]:
    """The float model in eager mode, and its integers."""
    from qatspec.lower import lower
    from tests.bench.deploy_speed import NETS as DEPLOYED, _built, _calibrated
    from tests.zoo.zoo import net

    if name == "vit_tiny":
        zoo = net(name)
        build, size, modules = lambda: zoo.build(**zoo.public), (224, 224), None
    else:
        build, size, modules = DEPLOYED[name]
    x = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
    options = {"modules": modules} if modules else {"quantize_output": False}
    if march:
        options["march"] = march
    qconfig = "onnxruntime_qat" if march == "onnxruntime" else "horizon_qat"
    program = lower(_calibrated(build, x[:1], qconfig=qconfig, **options), (x[:1],))
    net_in_float, ints = _built(build), program.quantize(x.numpy())

    def eager() -> object:
        with torch.inference_mode():
            return net_in_float(x)

    return {"float": eager, "integers": lambda: program.run(*ints)}


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("step", "compiled", "calibration", "integers"))
    parser.add_argument("--march", help="of the integers; default: none")
    parser.add_argument("--peer", action="store_true", help="torch.ao too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--case", action="append", help="NET:BATCH, default: all of the table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "integers":
        print(f"{given.threads} threads, torch {torch.__version__}, march {given.march}")
        for case in given.case or ("resnet18:1", "lite0:1", "fcos:1", "vit_tiny:1"):
            name, batch = case.split(":")
            taken = seconds(integers(name, int(batch), given.march), given.rounds)
            (wall, cpu), (own_wall, own_cpu) = taken["float"], taken["integers"]
            print(
                f"{case}: float {cpu * 1e3:.0f} ms CPU; integers {own_cpu / cpu:.2f} of it "
                f"({own_wall / wall:.2f} by the clock)",
                flush=True,
            )
        return
    print(f"{given.threads} threads, torch {torch.__version__}, images of 128 x 128")
    for case in given.case or ("lite0:8", "resnet18:8", "lite0:32", "resnet18:32"):
        name, batch = case.split(":")
        torch.manual_seed(0)
        x = torch.randn(int(batch), 3, 128, 128)
        if given.what == "compiled":
            print(f"{case}: {'; '.join(compiled(NETS[name], x, given.rounds))}", flush=True)
            continue
        stepping = given.what == "step"
        kinds = steps(NETS[name], x, given.peer) if stepping else forwards(NETS[name], x)
        taken = seconds(kinds, given.rounds)
        wall, cpu = taken.pop("float")
        cells = [
            f"{kind} {w / wall if stepping else wall / w:.2f} "
            f"({c / cpu if stepping else cpu / c:.2f})"
            for kind, (w, c) in taken.items()
        ]
        print(f"{case}: float {wall * 1e3:.0f} ms; {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()

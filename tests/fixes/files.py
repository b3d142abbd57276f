"""QS710 to QS732: Programs, ONNX files, and what they are compared with."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qatspec.analyze import compare_layers
from qatspec.cli.compare import _problems
from qatspec.diag import Diagnostic
from qatspec.export import OnnxRunner, export_qat_onnx, runner as runner_module, to_onnx
from qatspec.export.float16 import demand_finite, distances
from qatspec.export.host import HostRunner, export_host
from qatspec.export.saturation import PRECISION
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.prepare import set_stage
from qatspec.program import Program, load_program, save_program
from qatspec.program.verify import verify
from qatspec.types import QConfig, QSpec
from tests.fixes.following import (
    Case,
    Net,
    Whole,
    X,
    calibrated,
    each,
    silent,
    through,
    told,
)

INT16 = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint8", ch_axis=0))
INT16_WEIGHT = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint16", ch_axis=0))
INT4 = QConfig(activation=QSpec(dtype="qint8"), weight=QSpec(dtype="qint4", ch_axis=0))
INT8 = QConfig(activation=QSpec(dtype="qint8"), weight=QSpec(dtype="qint8", ch_axis=0))


CASES: list[Case] = []


def _program() -> Program:
    prepared = calibrated(Net(lambda m, x: x.relu()))
    set_stage(prepared, "eval")
    return lower(prepared, (X,))


def _stored(*, again: bool) -> list[Diagnostic]:
    def act() -> Any:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "net.program"
            save_program(_program(), path)
            path.write_bytes(path.read_bytes()[:-9])
            if again:
                save_program(_program(), path)
            load_program(path)

    return told(act)


def _malformed() -> list[Diagnostic]:
    program = _program()
    return verify(replace(program, ops=program.ops[1:]))


CASES += each(
    "QS710",
    (
        "make it again with `qatspec convert`",
        lambda: _stored(again=False),
        lambda: _stored(again=True),
    ),
)
CASES += each(
    "QS711", ("make the program again by `convert`", _malformed, lambda: verify(_program()))
)


def _ran(quantize: bool) -> list[Diagnostic]:
    program = _program()
    images = program.quantize(X.numpy()) if quantize else [X.numpy()]
    return told(lambda: silent(program.run(*images)))


CASES += each("QS712", ("run(*program.quantize(images))", lambda: _ran(False), lambda: _ran(True)))


def _opset(value: int | None) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Net(lambda m, x: x), qconfig=INT16)
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            export_qat_onnx(prepared, Path(folder) / "qat.onnx", opset=value)

    return told(act)


CASES += each(
    "QS720",
    ("leave the opset out", lambda: _opset(17), lambda: _opset(None)),
    ("or raise it", lambda: _opset(17), lambda: _opset(21)),
)


def _opened(name: str) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Net(lambda m, x: x))
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            export_qat_onnx(prepared, Path(folder) / "qat.onnx")
            to_onnx(lower(prepared, (X,)), Path(folder) / "converted.onnx")
            OnnxRunner.load(Path(folder) / name)

    return told(act)


CASES += each(
    "QS721",
    ("give the `-converted.onnx`", lambda: _opened("qat.onnx"), lambda: _opened("converted.onnx")),
)


def _saturating_cpu() -> list[Diagnostic]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "_is_exact", lambda make: False)
        runner_module.self_test.cache_clear()
        try:
            return told(runner_module.self_test)
        finally:
            runner_module.self_test.cache_clear()


def _uninstalled() -> list[Diagnostic]:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        return told(lambda: silent(runner_module.runtime()))


CASES += each("QS722", ("evaluate the Program itself", _saturating_cpu, lambda: _ran(True)))
CASES += each(
    "QS723",
    (
        "pip install 'qatspec[onnxruntime]'",
        _uninstalled,
        lambda: told(lambda: silent(runner_module.runtime())),
    ),
)
CASES += each(
    "QS724",
    (
        "move it, with what follows it, behind the outputs",
        lambda: through(Whole(lambda m, x: torch.cumprod(m.a(x), 1)), modules={"a": {}}),
        lambda: through(Whole(lambda m, x: m.a(x)), modules={"a": {}}),
    ),
)


class _Best(Net):
    """It finds the best place of each channel in evaluation, by `function`."""

    def forward(self, x: Any) -> Any:
        y = self.a(x)
        return y if self.training else self.body(y.flatten(2))


def _in_one_file(function: Any) -> list[Diagnostic]:
    def act() -> Any:
        net = _Best(lambda m, x: x)
        net.body = function
        prepared = calibrated(net)
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            return export_qat_onnx(prepared, Path(folder) / "qat.onnx")

    return told(act)


CASES += each(
    "QS519",
    (
        "to have all in one file, write it with ops that quant handlers know",
        lambda: _in_one_file(lambda y: y.topk(1, 2)[0]),
        lambda: _in_one_file(lambda y: y.amax(2, keepdim=True)),
        ("QS517",),
    ),
)


def _hosted(together: bool) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Whole(lambda m, x: m.a(x).softmax(1)), modules={"a": {}})
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            files = export_host(prepared, host_parts(deploy(prepared, (X,))), Path(folder), "net")
            for path in files if not together else ():
                path.unlink()
            HostRunner.load(Path(folder), "net")

    return told(act)


CASES += each(
    "QS725",
    ("keep the files of one convert step together", lambda: _hosted(False), lambda: _hosted(True)),
)


def _fixed_batch(flat: Any) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Whole(lambda m, x: m.fc(flat(m.a(x))), fc=nn.Linear(1024, 2)), X[:1])
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            return export_qat_onnx(prepared, Path(folder) / "qat.onnx", batch=4)

    return told(act)


CASES += each(
    "QS726",
    (
        "reshape in forward by sizes of the input (`x.shape[0]`)",
        lambda: _fixed_batch(lambda y: y.view(1, -1)),
        lambda: _fixed_batch(lambda y: y.view(y.shape[0], -1)),
    ),
)


def _halved(step: Any) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Whole(lambda m, x: step(1000 * m.a(x))), modules={"a": {}})
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            host = host_parts(deploy(prepared, (X,)))
            (path,) = export_host(prepared, host, Path(folder), "net")
            feed = np.full((1, 4, 16, 16), 0.05, np.float32)
            model = onnx.load(path)
            demand_finite(path, distances(model, [{model.graph.input[0].name: feed}]))

    return told(act)


CASES += each(
    "QS727",
    (
        "keep all numbers below 65504 in forward",
        lambda: _halved(lambda y: torch.exp(y)),
        lambda: _halved(lambda y: torch.exp(y - y.amax(1, keepdim=True))),
    ),
)


def _compared(qconfig: QConfig, threshold: float) -> list[Diagnostic]:
    prepared = calibrated(Net(lambda m, x: x.relu()), qconfig=qconfig)
    set_stage(prepared, "eval")
    return _problems(compare_layers(prepared, [(X,)]), threshold)


CASES += each(
    "QS731",
    (
        "the modules that need more bits",
        lambda: _compared(INT4, 25.0),
        lambda: _compared(INT8, 25.0),
    ),
)


def _exported(option: str | None) -> list[Diagnostic]:
    def act() -> Any:
        net = Net(lambda m, x: x)
        net.a.weight.data.fill_(1.0)
        prepared = calibrated(net, march="onnxruntime")
        set_stage(prepared, "eval")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "qat.onnx"
            found = export_qat_onnx(prepared, path)
            if option is None:
                return found
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.add_session_config_entry(option, "1")
            session = onnxruntime.InferenceSession(path.read_bytes(), options)
            (got,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
            with torch.no_grad():
                step = float(np.abs(got - prepared.model(X).numpy()).max())
            return found if step > 0.1 else []

    return told(act)


CASES += each(
    "QS732",
    (
        f"set the session option `{PRECISION}` to `1`",
        lambda: _exported(None),
        lambda: _exported(PRECISION),
    ),
)

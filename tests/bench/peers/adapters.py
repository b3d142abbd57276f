"""The quantizers that are compared: those whose observers run in training, and the table of all."""

from __future__ import annotations

import copy
import dataclasses
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter import Adapter, Batches, Exported, run
from calibrating import Aimet, Mct, ModelOpt, Nncf
from torch import Tensor, nn


class Qatspec(Adapter):
    note = "the file is that of compile, `opt: fast`"

    def _prepare(self, net: nn.Module, x: Tensor, rules: Any) -> Any:
        from qatspec.api import prepare

        self.prepared = prepare(
            net, (x,), qconfig=rules, march="onnxruntime", quantize_output=False
        )
        self._print_warnings()
        return self.prepared

    def _print_warnings(self) -> None:
        for warning in self.prepared.warnings:
            print(f"{warning.code}: {warning.message}")

    def _prepared(self, net: nn.Module, x: Tensor, preset: str, bits: int) -> Any:
        from qatspec.registry import registry

        if bits == 8:
            return self._prepare(net, x, f"onnxruntime_{preset}")
        rule = dataclasses.asdict(registry().qconfig(f"onnxruntime_{preset}").config)
        rule["weight"]["dtype"] = f"qint{bits}"
        return self._prepare(net, x, {"": rule})

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        from qatspec.api import load_state, set_stage

        first = self._prepared(net, batches[0], "calibration", bits)
        set_stage(first, "calibration")
        run(first.model, batches)
        state = io.BytesIO()
        torch.save(first.model.state_dict(), state)
        state.seek(0)
        self._prepared(net, batches[0], "calibrated", bits)
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            Path(file.name).write_bytes(state.getvalue())
            load_state(self.prepared, file.name)
        return self.prepared.model

    def train(self, net: nn.Module, on: bool) -> None:
        from qatspec.api import set_stage

        set_stage(self.prepared, "qat" if on else "eval")
        self._print_warnings()

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from qatspec.api import compile, lower

        program = lower(self.prepared, (x,))
        artifact = compile(program, "onnxruntime", opt="fast")
        file.write_bytes(artifact.sections["model.onnx"])

        def values(outputs: list[np.ndarray]) -> np.ndarray:
            return program.dequantize(outputs)[0]

        return Exported(file, lambda images: list(artifact.quantize(images)), values)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        rules = {"": {"activation": {"obsrver": "mse"}, "weight": {}}}
        return self._prepare(net, batches[0], rules).model

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        rules = {"": "onnxruntime_qat", "module_name": {"body.99": None}}
        return self._prepare(net, batches[0], rules).model


class Fx(Adapter):
    """torch.ao's FX mode, qnnpack's defaults."""

    def _prepare(self, net: nn.Module, x: Tensor, bits: int, change: Any = None) -> nn.Module:
        from torch.ao.quantization import (
            FusedMovingAvgObsFakeQuantize as FakeQuantize,
            MovingAveragePerChannelMinMaxObserver as Observer,
            QConfig,
            get_default_qat_qconfig_mapping,
        )
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        torch.backends.quantized.engine = "qnnpack"
        mapping = get_default_qat_qconfig_mapping("qnnpack")
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bits else (0, -1)
        weight = FakeQuantize.with_args(
            observer=Observer, dtype=torch.qint8, qscheme=torch.per_channel_symmetric,
            quant_min=low, quant_max=high,
        )  # fmt: skip
        everywhere = QConfig(activation=mapping.global_qconfig.activation, weight=weight)
        for kind, config in mapping.object_type_qconfigs.items():
            if config == mapping.global_qconfig:  # not the fixed scales of sigmoid and the like
                mapping.set_object_type(kind, everywhere)
        mapping.set_global(everywhere)
        if change:
            mapping = change(mapping)
        return prepare_qat_fx(net.train(), mapping, (x,))

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        prepared = self._prepare(net, batches[0], bits).eval()
        prepared.apply(torch.ao.quantization.disable_fake_quant)
        run(prepared, batches)
        prepared.apply(torch.ao.quantization.enable_fake_quant)
        return prepared

    def settle(self, net: nn.Module) -> None:
        net.apply(torch.ao.quantization.disable_observer)
        net.apply(torch.ao.nn.intrinsic.qat.freeze_bn_stats)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from torch.ao.quantization.quantize_fx import convert_fx

        torch.backends.quantized.engine = "qnnpack"
        return super().export(convert_fx(copy.deepcopy(net)), x, file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        from torch.ao.quantization import QConfigMapping

        def change(mapping: Any) -> Any:
            entries = mapping.to_dict()
            return QConfigMapping.from_dict({"obsrver_type": None, **entries})

        return self._prepare(net, batches[0], 8, change)

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._prepare(net, batches[0], 8, lambda m: m.set_module_name("body.99", None))


class Pt2e(Adapter):
    """torchao's export mode with its quantizer for x86."""

    note = "static activations, as its x86 quantizer has them"

    def _config(self, bits: int) -> Any:
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        config = x86.get_default_x86_inductor_quantization_config(is_qat=True)
        if bits != 8:
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if bits else (0, -1)
            weight = dataclasses.replace(config.weight, quant_min=low, quant_max=high)
            config = dataclasses.replace(config, weight=weight)
        return config

    def _prepare(self, net: nn.Module, x: Tensor, quantizer: Any) -> nn.Module:
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

        shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},)
        graph = torch.export.export(net.train(), (x,), dynamic_shapes=shapes).module()
        return prepare_qat_pt2e(graph, quantizer)

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        from torchao.quantization import pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(self._config(bits))
        prepared = self._prepare(net, batches[0], quantizer)
        pt2e.move_exported_model_to_eval(prepared)
        prepared.apply(pt2e.disable_fake_quant)
        run(prepared, batches)
        prepared.apply(pt2e.enable_fake_quant)
        return prepared

    def train(self, net: nn.Module, on: bool) -> None:
        from torchao.quantization import pt2e

        (pt2e.move_exported_model_to_train if on else pt2e.move_exported_model_to_eval)(net)

    def settle(self, net: nn.Module) -> None:
        from torchao.quantization import pt2e

        net.apply(pt2e.disable_observer)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from torchao.quantization import pt2e
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        converted = convert_pt2e(copy.deepcopy(net))
        pt2e.move_exported_model_to_eval(converted)
        two = torch.cat([x, x])  # a batch of one would become a constant
        dims = ({0: torch.export.Dim("batch", min=1, max=4096)},)
        torch.onnx.export(converted, (two,), file, dynamo=True, dynamic_shapes=dims, verbose=False)
        return Exported(file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        config = dataclasses.replace(self._config(8).weight, obsrver=None)
        raise AssertionError(config)

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(self._config(8))
        quantizer.set_module_name_qconfig("body.99", None)
        return self._prepare(net, batches[0], quantizer)


class Brevitas(Adapter):
    note = "batch norms are folded before training; activation scales are learned"

    def _maps(self, bits: int) -> dict[type[nn.Module], Any]:
        from brevitas.graph.quantize import COMPUTE_LAYER_MAP
        from brevitas.quant import Int8WeightPerChannelFloat

        maps = dict(COMPUTE_LAYER_MAP)
        for kind in (nn.Conv2d, nn.Linear):
            layer, options = maps[kind]
            changed = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": bits}
            maps[kind] = (layer, {**options, **changed})
        return maps

    def _prepare(self, net: nn.Module, **options: Any) -> nn.Module:
        from brevitas.graph.quantize import preprocess_for_quantize, quantize

        return quantize(preprocess_for_quantize(net, trace_model=True), **options)

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        from brevitas.graph.calibrate import calibration_mode

        quantized = self._prepare(net, compute_layer_map=self._maps(bits)).eval()
        with calibration_mode(quantized):
            return run(quantized, batches)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from brevitas.export import export_onnx_qcdq

        export_onnx_qcdq(net, args=x, export_path=str(file), opset_version=17, dynamo=False)
        return Exported(file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        maps = self._maps(8)
        layer, options = maps[nn.Conv2d]
        maps[nn.Conv2d] = (layer, {**options, "weight_obsrver": 4})
        return self._prepare(net, compute_layer_map=maps)

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        from brevitas.graph.quantize import layerwise_quantize

        return layerwise_quantize(net, name_blacklist=["body.99"])


ADAPTERS: dict[str, type[Adapter]] = {
    "qatspec": Qatspec, "fx_qnnpack": Fx, "pt2e": Pt2e, "brevitas": Brevitas, "aimet": Aimet,
    "mct": Mct, "modelopt": ModelOpt, "nncf": Nncf,
}  # fmt: skip

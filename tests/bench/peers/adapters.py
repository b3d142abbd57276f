"""One way to call every quantizer: prepare and calibrate, train, export.

Each adapter does what the documentation of its project shows, with its defaults for a CPU. Two
choices are made for all: activations have 8 bits, and weights have a scale for each output channel
(the defaults of Brevitas and qnnpack have one for a tensor). The libraries are imported where they
are used: each is in a virtual environment of its own.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

Batches = Sequence[Tensor]


@dataclasses.dataclass
class Exported:
    """An ONNX file. feeds: float picture -> what the file takes; values: its outputs in float."""

    file: Path
    feeds: Callable[[np.ndarray], list[np.ndarray]] = lambda x: [x]
    values: Callable[[list[np.ndarray]], np.ndarray] = lambda outputs: outputs[0]


class Adapter:
    """What a quantizer does with a float net in eval mode."""

    #: Widths of weights that its training takes.
    bits: tuple[int, ...] = (8, 4)
    #: What is worth knowing beside its figures.
    note = ""

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        """Insert what quantizes and calibrate; returns a module to train. The net may be changed.

        bits: of the weights; 0 is a mistake that `mistakes.py` makes.
        """
        raise NotImplementedError

    def train(self, net: nn.Module, on: bool) -> None:
        """Switch between training and evaluation."""
        net.train(on)

    def settle(self, net: nn.Module) -> None:
        """What the project's recipe freezes for the last third of training, such as observers."""

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        """Write the trained net, in eval mode, for onnxruntime. x: one picture."""
        torch.onnx.export(net, (x,), file, opset_version=17, dynamo=False)
        return Exported(file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        """`prepare` with `obsrver` for a key, or another letter missing."""
        raise NotImplementedError

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        """`prepare` with a rule for the layer `body.99`, which there is not."""
        raise NotImplementedError


def _run(net: nn.Module, batches: Batches) -> nn.Module:
    with torch.no_grad():
        for x in batches:
            net(x)
    return net


class Qatspec(Adapter):
    note = "the file is that of compile, `opt: fast`"

    def _prepare(self, net: nn.Module, x: Tensor, rules: Any) -> Any:
        from qatspec.api import prepare

        self.prepared = prepare(
            net, (x,), qconfig=rules, march="onnxruntime", quantize_output=False
        )
        for warning in self.prepared.warnings:
            print(f"{warning.code}: {warning.message}")
        return self.prepared

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
        _run(first.model, batches)
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
        _run(prepared, batches)
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
        _run(prepared, batches)
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
            return _run(quantized, batches)

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


class ModelOpt(Adapter):
    note = "inputs and weights of convolutions and linear layers alone are quantized"

    def _quantize(self, net: nn.Module, batches: Batches, change: Any) -> nn.Module:
        import modelopt.torch.quantization as mtq

        config = copy.deepcopy(mtq.INT8_DEFAULT_CFG)
        change(config)
        return mtq.quantize(net, config, lambda model: _run(model, batches))

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        def change(config: dict[str, Any]) -> None:
            rules = config["quant_cfg"]
            if isinstance(rules, dict):
                rules["*weight_quantizer"]["num_bits"] = bits
                return
            for rule in rules:
                if rule.get("quantizer_name") == "*weight_quantizer":
                    rule["cfg"]["num_bits"] = bits

        return self._quantize(net, batches, change)

    def _added(self, net: nn.Module, batches: Batches, name: str, cfg: dict[str, Any]) -> nn.Module:
        def change(config: dict[str, Any]) -> None:
            rules = config["quant_cfg"]
            if isinstance(rules, dict):
                rules[name] = cfg
            else:
                rules.append({"quantizer_name": name, "cfg": cfg})

        return self._quantize(net, batches, change)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._added(net, batches, "*weight_quantizer", {"num_bits": 8, "obsrver": "max"})

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._added(net, batches, "*body.99*", {"num_bits": 4})


class Nncf(Adapter):
    bits = (8,)
    note = "it trains convolutions with 8 bits only; its C++ extension is compiled at the first use"

    def _quantize(self, net: nn.Module, batches: Batches, **options: Any) -> nn.Module:
        import nncf

        data = nncf.Dataset(list(batches))
        return nncf.quantize(net, data, subset_size=len(batches), **options)

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        if bits == 8:
            return self._quantize(net, batches)
        from nncf.quantization import advanced_parameters as advanced

        width = advanced.QuantizationParameters(num_bits=bits)
        parameters = advanced.AdvancedQuantizationParameters(weights_quantization_params=width)
        return self._quantize(net, batches, advanced_parameters=parameters)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        import nncf

        return super().export(nncf.strip(copy.deepcopy(net), example_input=x), x, file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._quantize(net, batches, obsrver=1)

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        import nncf

        return self._quantize(net, batches, ignored_scope=nncf.IgnoredScope(names=["body.99"]))


class Aimet(Adapter):
    note = "batch norms are folded before training"

    def __init__(self) -> None:
        # its data loaders alone need it; the build of pip does not load beside torch for CPUs
        parts = ("torchvision", "torchvision.ops")
        sys.modules.update({name: mock.MagicMock() for name in parts if name not in sys.modules})

    def _simulated(self, net: nn.Module, batches: Batches, bits: int, config: Any) -> nn.Module:
        from aimet_torch.batch_norm_fold import fold_all_batch_norms
        from aimet_torch.quantsim import QuantizationSimModel

        x = batches[0][:1]
        fold_all_batch_norms(net, tuple(x.shape), x)
        simulated = QuantizationSimModel(
            net, x, default_output_bw=8, default_param_bw=bits, config_file=config
        )
        simulated.compute_encodings(lambda model: _run(model, batches))
        return simulated.model

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        return self._simulated(net, batches, bits, None)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from aimet_torch import onnx

        onnx.export(net, x, str(file), opset_version=17, dynamo=False)
        return Exported(file)

    def _configured(self, net: nn.Module, batches: Batches, **keys: Any) -> nn.Module:
        import json

        import aimet_torch

        folder = Path(aimet_torch.__file__).parents[1] / "aimet_common/quantsim_config"
        if not folder.exists():
            (file,) = Path(aimet_torch.__file__).parents[1].rglob("default_config_per_channel.json")
            folder = file.parent
        config = json.loads((folder / "default_config_per_channel.json").read_text())
        for key, value in keys.items():
            config[key] = config.get(key, {}) | value
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(config, file)
        return self._simulated(net, batches, 8, file.name)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._configured(net, batches, obsrver={"x": 1})

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._configured(net, batches, op_type={"body.99": {"is_output_quantized": "True"}})


class Mct(Adapter):
    note = "its example target (imx500): scales are powers of two; batch norms are folded"

    def _init(self, net: nn.Module, batches: Batches, core: Any, **options: Any) -> nn.Module:
        import model_compression_toolkit as mct

        def data() -> Any:
            for x in batches:
                yield [x]

        made, _ = mct.qat.pytorch_quantization_aware_training_init_experimental(
            net, data, core_config=core, **options
        )
        return made

    def _core(self, bits: int, pattern: Any = None) -> Any:
        import model_compression_toolkit as mct
        from model_compression_toolkit.core.common.network_editors import NodeTypeFilter

        core = mct.core.CoreConfig()
        if bits != 8 or pattern:
            kinds = [NodeTypeFilter(nn.Conv2d), NodeTypeFilter(nn.Linear)]
            filters = [pattern] if pattern else kinds
            core.bit_width_config.set_manual_weights_bit_width(filters, [bits] * len(filters))
        return core

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        return self._init(net, batches, self._core(bits))

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        import model_compression_toolkit as mct

        final = mct.qat.pytorch_quantization_aware_training_finalize_experimental(net)
        return super().export(final.cpu().eval(), x, file)

    def misspelt_key(self, net: nn.Module, batches: Batches) -> nn.Module:
        return self._init(net, batches, self._core(8), obsrver=1)

    def unmatched_rule(self, net: nn.Module, batches: Batches) -> nn.Module:
        from model_compression_toolkit.core.common.network_editors import NodeNameFilter

        return self._init(net, batches, self._core(4, NodeNameFilter("body.99")))


ADAPTERS: dict[str, type[Adapter]] = {
    "qatspec": Qatspec, "fx_qnnpack": Fx, "pt2e": Pt2e, "brevitas": Brevitas, "aimet": Aimet,
    "mct": Mct, "modelopt": ModelOpt, "nncf": Nncf,
}  # fmt: skip

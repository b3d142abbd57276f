"""Quantizers whose `prepare` is one call that calibrates too."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from adapter import Adapter, Batches, Exported, run
from torch import Tensor, library, nn

_DECLARED: list[Any] = []  # ops live as long as their library


class ModelOpt(Adapter):
    note = "inputs and weights of convolutions and linear layers alone are quantized"

    def _quantize(self, net: nn.Module, batches: Batches, change: Any) -> nn.Module:
        import modelopt.torch.quantization as mtq

        config = copy.deepcopy(mtq.INT8_DEFAULT_CFG)
        change(config)
        return mtq.quantize(net, config, lambda model: run(model, batches))

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
    _opset = 17

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
        simulated.compute_encodings(lambda model: run(model, batches))
        return simulated.model

    def prepare(self, net: nn.Module, batches: Batches, bits: int) -> nn.Module:
        self._opset = 17 if bits > 4 else 21  # the first one with integers of 4 bits
        return self._simulated(net, batches, bits, None)

    def export(self, net: nn.Module, x: Tensor, file: Path) -> Exported:
        from aimet_torch import onnx

        onnx.export(net, x, str(file), opset_version=self._opset, dynamo=False)
        return Exported(file)

    def _configured(self, net: nn.Module, batches: Batches, **keys: Any) -> nn.Module:
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

    def __init__(self) -> None:
        # pip's torchvision, for CUDA, loads beside torch for CPUs once these exist
        if not _DECLARED and "torchvision" not in sys.modules:
            _DECLARED.append(ops := library.Library("torchvision", "DEF"))
            ops.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            ops.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

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
            widths, attributes = [bits] * len(filters), ["weight"] * len(filters)
            core.bit_width_config.set_manual_weights_bit_width(filters, widths, attributes)
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

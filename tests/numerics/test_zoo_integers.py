"""Every net of the zoo, at its test size: it lowers, exports and runs in onnxruntime, equal to the
executor and to the interpreter; or it holds an op that no integer form exists for, and is told so
op by op with a place and a mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.onnx import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.program import interpret
from tests.nets import settle
from tests.zoo.zoo import nets

pytest.importorskip("onnxruntime")

#: Ops over the input's own statistics, products of two activations, gathers, maxima with their
#: places, signs, and float heads.
FLOAT = (
    "softmax", "log_softmax", "group_norm", "layer_norm", "instance_norm", "argmax", "matmul",
    "embedding", "floor_divide", "max ", "sign",
)  # fmt: skip

#: The nets that hold one of them; every other net has integers.
REFUSED = frozenset({
    "centernet_r18", "conv_tasnet", "cyclegan", "detr_r50", "ds_cnn", "faceboxes", "informer",
    "m11", "mlp_mixer_s16", "mobilevit_s", "panoptic_fpn_r50", "poolformer_s12", "resnet18_cbam",
    "resnet18_triplet", "salsanext", "segnet", "shrinkage_net", "siam_diff", "ssd300_vgg16",
    "unet3d", "vit_tiny", "vnet", "yolov2", "yolov8n",
})  # fmt: skip


@pytest.mark.parametrize("net", nets(), ids=lambda net: net.name)
def test_integers(net, tmp_path):
    torch.manual_seed(0)
    model = net.build(**net.tiny).eval()
    x = torch.randn(1, net.channels, *net.tiny_size)
    prepared = settle(model, x, quantize_output=True)
    try:
        deployment = deploy(prepared, (x,))
        program = lower(prepared, (x,), deployment=deployment)
    except DiagnosticError as refused:
        found = refused.diagnostics
        assert net.name in REFUSED, found
        assert any(d.message.startswith(FLOAT) for d in found), found
        assert all(d.code in ("QS701", "QS702", "QS703") and d.help for d in found)
        assert all(d.span is not None or "module" in d.message for d in found)
        return
    assert net.name not in REFUSED
    ints = program.quantize(x.numpy())
    to_onnx(program, tmp_path / "converted.onnx")
    runner = OnnxRunner.load(tmp_path / "converted.onnx", threads=1)
    ways = zip(interpret(program, *ints), program.run(*ints), runner.run(*ints), strict=True)
    for referee, executor, onnx in ways:
        assert np.array_equal(referee, executor)
        assert np.array_equal(referee, onnx)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,), deployment=deployment)

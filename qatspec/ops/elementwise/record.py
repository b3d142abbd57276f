"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "elementwise",
        "lut",
        "functions of one number, a table on the chip",
        {
            "sigmoid": "nn:Sigmoid f:sigmoid torch.sigmoid torch.sigmoid_ t:sigmoid t:sigmoid_",
            "tanh": "nn:Tanh f:tanh torch.tanh torch.tanh_ t:tanh t:tanh_",
            "silu": "nn:SiLU f:silu",
            "gelu": "nn:GELU f:gelu",
            "elu": "nn:ELU f:elu",
            "hardswish": "nn:Hardswish f:hardswish",
            "hardsigmoid": "nn:Hardsigmoid f:hardsigmoid",
            "leaky_relu": "nn:LeakyReLU f:leaky_relu f:leaky_relu_",
            "softplus": "nn:Softplus f:softplus",
            "exp": "torch.exp t:exp",
            "sqrt": "torch.sqrt t:sqrt",
            "rsqrt": "torch.rsqrt t:rsqrt",
            "abs": "torch.abs operator.abs t:abs",
            "sign": "torch.sign torch.sgn t:sign t:sgn",
        },
    ),
    handler(
        "elementwise",
        "pow",
        "power with a constant exponent",
        {"pow": "torch.pow operator.pow t:pow"},
        annotate="annotate_pow",
        lower="lower_pow",
        to_onnx="write_pow",
    ),
    handler(
        "elementwise",
        "prelu",
        "rectifier with a learned slope",
        {"prelu": "nn:PReLU f:prelu torch.prelu"},
        lower="lower_prelu",
        to_onnx="write_prelu",
    ),
    handler(
        "elementwise",
        "elementwise_function",
        "any other function of one number, torch's or a user's, a table of the function itself",
        {"elementwise_function": "qatspec.quant.elementwise.ElementwiseFunction"},
        lower="lower_function",
        to_onnx="write_function",
    ),
)

"""A TFLite file, tensor by tensor and op by op. It is encoded with the classes of the format's
schema that the wheel `ai-edge-litert` ships, and Google's `flatbuffers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Operator -> (the class of its options, the version whose kernels take int8).
_OPTIONS: Mapping[str, tuple[str, int]] = {
    "ADD": ("AddOptions", 2),
    "ARG_MAX": ("ArgMaxOptions", 2),
    "CAST": ("CastOptions", 1),
    "CONCATENATION": ("ConcatenationOptions", 2),
    "CONV_2D": ("Conv2DOptions", 3),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3),
    "FULLY_CONNECTED": ("FullyConnectedOptions", 5),
    "GATHER": ("GatherOptions", 2),
    "MAX_POOL_2D": ("Pool2DOptions", 2),
    "MAXIMUM": ("MaximumMinimumOptions", 2),
    "MINIMUM": ("MaximumMinimumOptions", 2),
    "MUL": ("MulOptions", 2),
    "PAD": ("PadOptions", 2),
    "PADV2": ("PadV2Options", 2),
    "QUANTIZE": ("QuantizeOptions", 2),
    "REDUCE_MAX": ("ReducerOptions", 2),
    "RESHAPE": ("ReshapeOptions", 1),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", 3),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 3),
    "STRIDED_SLICE": ("StridedSliceOptions", 2),
    "SUB": ("SubOptions", 2),
    "TRANSPOSE": ("TransposeOptions", 2),
    "TRANSPOSE_CONV": ("TransposeConvOptions", 3),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """dtype: int8 or int32. scale: float32 (1,), or one for each index of the dim `axis`; None: it
    is not quantized. zero: the integer that stands for 0. data: of a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: np.ndarray | None
    zero: int
    axis: int
    data: np.ndarray | None


class FlatFile:
    """Collects tensors and operators; `encoded` gives the file's bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: list[Tensor] = []
        self.operators: list[tuple[str, list[int], int, dict[str, Any]]] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "int8",
        *,
        scale: Any = None,
        zero: int = 0,
        axis: int = 0,
        data: Any = None,
    ) -> int:
        """Add a tensor and return its number."""
        scales = None if scale is None else np.atleast_1d(np.asarray(scale, np.float32))
        array = None if data is None else np.ascontiguousarray(data, dtype)
        sizes = tuple(int(size) for size in shape)
        self.tensors.append(Tensor(name, sizes, dtype, scales, zero, axis, array))
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """Add an operator of `kind`, with options of its record in the schema. Return `output`."""
        self.operators.append((kind, list(inputs), output, options))
        return output

    def encoded(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file whose inputs and outputs are these tensors. Raises ImportError without
        ai-edge-litert."""
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        buffers = [schema.BufferT()]
        graph = schema.SubGraphT()
        graph.name = self.name
        graph.tensors = [_tensor(schema, tensor, buffers) for tensor in self.tensors]
        kinds = list(dict.fromkeys(kind for kind, *_ in self.operators))
        graph.operators = [_operator(schema, kinds, *operator) for operator in self.operators]
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version, model.description = 3, self.name
        model.subgraphs, model.buffers = [graph], buffers
        model.operatorCodes = [_code(schema, kind) for kind in kinds]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _tensor(schema: Any, tensor: Tensor, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.hasRank = tensor.name, list(tensor.shape), True
    made.type = getattr(schema.TensorType, tensor.dtype.upper())
    if tensor.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = [float(scale) for scale in tensor.scale]
        made.quantization.zeroPoint = [tensor.zero] * len(tensor.scale)
        made.quantization.quantizedDimension = tensor.axis
    if tensor.data is not None:
        made.buffer = len(buffers)
        buffer = schema.BufferT()
        little = tensor.data.astype(tensor.data.dtype.newbyteorder("<"))
        buffer.data = np.frombuffer(little.tobytes(), np.uint8)
        buffers.append(buffer)
    return made


def _operator(
    schema: Any,
    kinds: list[str],
    kind: str,
    inputs: list[int],
    output: int,
    options: dict[str, Any],
) -> Any:
    record = _OPTIONS[kind][0]
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = kinds.index(kind), inputs, [output]
    made.builtinOptionsType = getattr(schema.BuiltinOptions, record)
    made.builtinOptions = getattr(schema, f"{record}T")()
    for key, value in options.items():
        setattr(made.builtinOptions, key, value)
    return made


def _code(schema: Any, kind: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # 127: see builtinCode
    code.version = _OPTIONS[kind][1]
    return code

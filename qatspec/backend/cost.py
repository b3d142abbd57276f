"""How long a core takes for a part of a layer.

The figures of the hardware are in `Target`; what they rest on is stated in the capabilities.
"""

from __future__ import annotations

from math import prod

from qatspec.backend.layers import Layer
from qatspec.backend.packing import features_bytes
from qatspec.backend.region import Box, layer_needs, view
from qatspec.backend.rows import along_columns
from qatspec.backend.target import Target, align
from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program


def layer_us(layer: Layer, box: Box, program: Program, target: Target) -> float:
    """Time of one core for `box` of a layer's output: the array, or the port to the memory on chip
    where that takes longer. What rides behind a convolution runs in the same pass and costs nothing
    more, but for tables where the march has a rate of them; the start of a layer is not counted."""
    anchor = layer.ops[0]
    if has(anchor, Trait.WEIGHTED):
        cycles = _mac_cycles(anchor, box, program, target)
    elif anchor.kind == "matmul":
        cycles = _product_cycles(anchor, box, program, target)
    else:
        # numbers pass once, through all ops of the layer
        cycles = max(_vector_cycles(op, box, program, target) for op in layer.ops)
    if target.hardware.table_lanes:
        tables = sum(op.kind == "lut" for op in layer.ops[1:])
        width = view(program.values[layer.output].shape)[2]
        cycles += tables * box.channels * box.rows * width / target.hardware.table_lanes
    port = target.hardware.port_bytes_per_cycle
    if port:
        cycles = max(cycles, _port_bytes(layer, box, program, target) / port)
    return target.cycles_to_us(cycles)


def host_us(layer: Layer, program: Program, target: Target, frames: int = 1) -> float:
    """Time of the CPU for a layer that runs there: every number that it reads or makes, once more
    to be dequantized or quantized where it comes from the chip or goes there, and the hand-over.
    frames: how many a run has, which are handed over together."""
    host = target.host
    assert host is not None
    values = [*layer.inputs, layer.output]
    values += [name for op in layer.ops for name in (*op.inputs, op.output)]
    numbers: int = sum(prod(program.values[n].shape) for n in values if n not in program.consts)
    return host.start_us + frames * numbers / host.elements_per_us


def tail_us(program: Program, target: Target, frames: int) -> float:
    """Time of the CPU to take over the outputs of a run: every number is read and written once, as
    by what dequantizes or decodes it. 0 where the march says nothing of a CPU."""
    if target.host is None:
        return 0.0
    numbers: int = sum(prod(port.shape) for port in program.outputs)
    return target.host.start_us + 2 * frames * numbers / target.host.elements_per_us


def _port_bytes(layer: Layer, box: Box, program: Program, target: Target) -> int:
    """Bytes of features that a core reads and writes on chip for `box`."""
    needs = layer_needs(layer, box, program)
    read = sum(features_bytes(program.values[n], needs[n], target) for n in layer.inputs)
    return read + features_bytes(program.values[layer.output], box, target)


def macs(op: Op, program: Program) -> int:
    """Multiply-accumulates of a whole op; 0 where it multiplies by no weight."""
    if not has(op, Trait.WEIGHTED):
        return 0
    weight = program.values[op.inputs[1]].shape
    if op.kind == "conv_transpose":
        return prod(program.values[op.inputs[0]].shape) * prod(weight[1:])
    return prod(program.values[op.output].shape) * prod(weight[1:])


def _mac_cycles(op: Op, box: Box, program: Program, target: Target) -> float:
    """Cycles with width and channels padded as the array takes them; 16-bit inputs take two
    passes."""
    hardware, weight = target.hardware, program.values[op.inputs[1]].shape
    source = program.values[op.inputs[0]]
    passes = 2 if source.dtype == "int16" else 1
    if op.kind == "linear":
        columns, per_group = 1, weight[1]
        rows = prod(source.shape[:-1])
        channels = weight[0] if len(source.shape) > 1 else box.channels
    else:
        transposed = op.kind == "conv_transpose"
        per_group = weight[0] // op.attrs["groups"] if transposed else weight[1]
        columns = align(view(program.values[op.output].shape)[2], hardware.align_width)
        rows, channels = box.rows, box.channels
    work = columns * rows * prod(weight[2:]) * passes
    if _taps(op) > 1:
        work = -(-work // _taps(op))
    if op.attrs.get("groups", 1) > 1 and per_group == 1:
        return (
            work * align(channels, hardware.align_channels_in) / hardware.depthwise_macs_per_cycle
        )
    depth = align(per_group, hardware.align_channels_in)
    return work * align(channels, hardware.align_channels_out) * depth / hardware.macs_per_cycle


def _product_cycles(op: Op, box: Box, program: Program, target: Target) -> float:
    """Cycles of a product of two activations: the array takes the second one as its weights."""
    hardware, source = target.hardware, program.values[op.inputs[0]]
    passes = 2 if source.dtype == "int16" else 1
    columns = align(view(program.values[op.output].shape)[2], hardware.align_width)
    inner = align(source.shape[-1], hardware.align_channels_in)
    return box.channels * box.rows * columns * inner * passes / hardware.macs_per_cycle


def _taps(op: Op) -> int:
    """For a transposed convolution the product of its strides: each output uses one in so many taps
    of the kernel. 1 for other ops."""
    return prod(op.attrs["stride"]) if op.kind == "conv_transpose" else 1


def _vector_cycles(op: Op, box: Box, program: Program, target: Target) -> float:
    """Elements read or made by the op's part of the tile, whichever is more, over the lanes."""
    width = view(program.values[op.output].shape)[2]
    made = box.channels * box.rows * width
    if has(op, Trait.WINDOWED):  # windows slide as those of depthwise convolutions do
        window: int = prod(op.attrs["kernel"])
        return made * window / target.hardware.depthwise_macs_per_cycle
    read = 0
    if has(op, Trait.REDUCES):
        channels, rows, columns = view(program.values[op.inputs[0]].shape)
        rows = box.rows if along_columns(op) else rows
        read = min(channels, box.channels) * rows * columns
    return max(made, read) / _lanes(op, target)


def _lanes(op: Op, target: Target) -> float:
    """Elements a cycle of an op that multiplies by no weight."""
    hardware = target.hardware
    slow = hardware.softmax_lanes if has(op, Trait.SOFTMAX) else 0
    return slow or hardware.vector_lanes

"""What the commands of a compiled file name by number: its layers with their ops, and its values.

The section `layers` has numbers alone: dtypes and shapes of values, the constants and ports among
them, and each layer as a list of ops [kind, inputs, output, attributes]. The section `origins` has
what people read: a name and a scale for each value, and where each op comes from. No constant is in
either; they are in `weights`, in the layout of the chip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from qatspec.backend.layers import Layer
from qatspec.ir import STORAGE, Op, Value
from qatspec.program import Artifact, Program, check
from qatspec.program.serde import arithmetic_data, arithmetic_of, op_of, values_of

_NO_ORIGIN = ["", "", "", "", ""]


def layers_record(program: Program, layers: Sequence[Layer]) -> dict[str, Any]:
    """The section `layers` as JSON: values are numbered in the order of `program.values`."""
    numbers = {name: number for number, name in enumerate(program.values)}
    return {
        **arithmetic_data(program.arithmetic),
        "values": [[value.dtype, list(value.shape)] for value in program.values.values()],
        "inputs": [numbers[port.name] for port in program.inputs],
        "outputs": [numbers[port.name] for port in program.outputs],
        "constants": [numbers[name] for name in program.consts],
        "layers": [
            [
                [op.kind, [numbers[name] for name in op.inputs], numbers[op.output], dict(op.attrs)]
                for op in layer.ops
            ]
            for layer in layers
        ],
    }


def origins_record(program: Program, layers: Sequence[Layer]) -> dict[str, Any]:
    """The section `origins` as JSON."""
    return {
        "values": [_named(value) for value in program.values.values()],
        "ops": [[list(astuple(op.origin)) for op in layer.ops] for layer in layers],
    }


def _named(value: Value) -> list[Any]:
    scale = None if value.scale is None else value.scale.tolist()
    return [value.name, scale, value.axis]


class Names:
    """The name, scale and axis of each value by its number: those of the section `origins`; without
    it, the ports' names, and the number for all others."""

    def __init__(self, artifact: Artifact) -> None:
        """Raises KeyError, TypeError or ValueError on sections that are not those of a bin."""
        self.layers = json.loads(artifact.sections["layers"])
        self.origins = json.loads(artifact.sections.get("origins", b"null"))
        count = len(self.layers["values"])
        self.values = [[f"value {number}", None, None] for number in range(count)]
        if self.origins is not None:
            self.values = self.origins["values"]
        for key, ports in ("inputs", artifact.real_inputs), ("outputs", artifact.outputs):
            for number, port in zip(self.layers[key], ports, strict=True):
                if self.origins is None:
                    self.values[number] = [port.name, None, None]
                elif self[number] != port.name:
                    raise ValueError(f"value {number} is not the port `{port.name}`")

    def __getitem__(self, number: object) -> str:
        """Raises ValueError where no value has this number."""
        if type(number) is not int or not 0 <= number < len(self.values):
            raise ValueError(f"{number!r} is the number of no value")
        return str(self.values[number][0])

    def op(self, entry: Any, layer: int, index: int) -> Op:
        """The op of an entry of the section `layers`, the one of this index in its layer."""
        kind, inputs, output, attrs = entry
        origin = _NO_ORIGIN if self.origins is None else self.origins["ops"][layer][index]
        return op_of([kind, [self[number] for number in inputs], self[output], attrs, origin])


def read_layers(
    artifact: Artifact, names: Names, constants: Mapping[str, np.ndarray]
) -> tuple[Program, list[range]]:
    """What a file's layers compute, checked as a Program is: ranges are proven and shapes inferred.

    artifact   the bin.
    names      of its values.
    constants  their integers by name, unpacked from the weights.

    Returns ops, values, ports and constants, and for each layer the indexes of its ops. Nothing
    runs them: the machine carries out commands. Raises KeyError, TypeError or ValueError on a
    broken section, DiagnosticError where the ops are none that a chip could run.
    """
    record = names.layers
    values = values_of(
        [name, dtype, shape, scale, axis]
        for (name, scale, axis), (dtype, shape) in zip(names.values, record["values"], strict=True)
    )
    consts = {}
    for name in map(names.__getitem__, record["constants"]):
        consts[name] = np.ascontiguousarray(constants[name], STORAGE[values[name].dtype])
    ops: list[Op] = []
    chains = []
    for layer, entries in enumerate(record["layers"]):
        chains.append(range(len(ops), len(ops) + len(entries)))
        ops += [names.op(entry, layer, index) for index, entry in enumerate(entries)]
    program = Program(
        name=str(artifact.manifest["name"]),
        march=artifact.march,
        arithmetic=arithmetic_of(record),
        inputs=artifact.real_inputs,
        outputs=artifact.outputs,
        values=values,
        consts=consts,
        ops=tuple(ops),
        tree=artifact.tree,
    )
    return check(program), chains

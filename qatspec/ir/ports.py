"""Ports: the check of the arrays that are passed in, and the tree of the results."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS712
from qatspec.ir.data import STORAGE, IntegerModel

#: The one key of the tree of a Program that is only a part of its model: {HOST: tree}. Its outputs
#: (its inputs, or both) are not the model's, but those of float parts that run on the host.
HOST = "$host"

#: The one key of a leaf of a tree that is a constant of the model's instead of an output:
#: {CONSTANT: None}, or a number, a truth value or a text.
CONSTANT = "$constant"

#: The one key of the tree of a named tuple, and of an object whose parts are attributes, such as a
#: dataclass: {NAMED_TUPLE: {name: tree}}, {ATTRIBUTES: {name: tree}}.
NAMED_TUPLE, ATTRIBUTES = "$named_tuple", "$attributes"
#: The one key of the tree of a dict whose keys are not in alphabetical order, in which files have
#: them: {ORDERED: [[{CONSTANT: key}, tree], ...]}.
ORDERED = "$ordered"


class Attributes(dict[str, Any]):
    """The parts of a result by name, as keys and as attributes: what stands for a dataclass, whose
    class a file of integers does not hold."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the outputs have no part `{name}`", name=name, obj=self
            ) from None


def on_host(tree: Any) -> bool:
    """Return whether the Program with this output tree is only a part of its model."""
    return isinstance(tree, dict) and set(tree) == {HOST}


def check_inputs(ported: IntegerModel, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`ints` as arrays that fit the input ports. Raises DiagnosticError QS712."""
    if len(ints) != len(ported.inputs):
        raise _misfit(f"{len(ints)} arrays given, {len(ported.inputs)} input ports")
    arrays = [np.asarray(array) for array in ints]
    for port, array in zip(ported.inputs, arrays, strict=True):
        if array.dtype != STORAGE[port.dtype]:
            raise _misfit(f"port `{port.name}` takes {port.dtype}, was given {array.dtype}")
        if array.ndim != len(port.shape) + 1 or array.shape[1:] != port.shape:
            raise _misfit(
                f"port `{port.name}` takes (batch, {', '.join(map(str, port.shape))}), "
                f"was given {array.shape}"
            )
        if array.shape[0] < 1 or array.shape[0] != arrays[0].shape[0]:
            raise _misfit(f"port `{port.name}` was given a batch of {array.shape[0]}")
    return arrays


def _misfit(message: str) -> DiagnosticError:
    help_ = "quantize real numbers first: run(*program.quantize(images))"
    return QS712.error(message, help=help_)


def is_constant(tree: Any) -> bool:
    """Return whether a part of an output tree is a constant."""
    return isinstance(tree, dict) and set(tree) == {CONSTANT}


def unflatten(tree: Any, flat: Sequence[Any]) -> Any:
    """The structure that the model's forward returns, from the outputs in port order.

    tree: `Program.tree`: an output index, a constant, or lists, dicts, ORDERED, NAMED_TUPLE and
    ATTRIBUTES of trees; tuples come back as lists, dataclasses as Attributes.
    """
    if is_constant(tree):
        return tree[CONSTANT]
    if isinstance(tree, dict):
        if set(tree) == {NAMED_TUPLE}:
            parts = unflatten(tree[NAMED_TUPLE], flat)
            return namedtuple("Outputs", parts)(**parts)
        if set(tree) == {ATTRIBUTES}:
            return Attributes(unflatten(tree[ATTRIBUTES], flat))
        if set(tree) == {ORDERED}:
            return {key[CONSTANT]: unflatten(branch, flat) for key, branch in tree[ORDERED]}
        return {key: unflatten(branch, flat) for key, branch in tree.items()}
    if isinstance(tree, list):
        return [unflatten(branch, flat) for branch in tree]
    return flat[tree]


def in_order(branches: dict[str, Any]) -> dict[str, Any]:
    """The tree of a dict of trees, whose order files keep."""
    if list(branches) == sorted(branches):
        return branches
    return {ORDERED: [[{CONSTANT: key}, branch] for key, branch in branches.items()]}


def renumbered(tree: Any, ports: Sequence[int]) -> Any:
    """The tree with ports[i] in place of the output index i."""
    if is_constant(tree):
        return tree
    if isinstance(tree, dict):
        return {key: renumbered(branch, ports) for key, branch in tree.items()}
    if isinstance(tree, list):
        return [renumbered(branch, ports) for branch in tree]
    return ports[tree]


def outputs_of(tree: Any) -> list[int]:
    """The output indexes of a tree, in its order, without its constants."""
    if is_constant(tree):
        return []
    if isinstance(tree, (dict, list)):
        branches = tree.values() if isinstance(tree, dict) else tree
        return [index for branch in branches for index in outputs_of(branch)]
    return [int(tree)]

"""Copying the float model, which prepare changes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS511
from qatspec.diag.words import quote_list
from qatspec.quant.computed import stored_results

#: tables of a module whose entries are copied one by one, under their own names
_TABLES = ("_parameters", "_buffers")


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of `model`.

    Raises DiagnosticError QS511 naming each attribute that Python cannot copy: an open file, a
    lock, a generator, a tensor that is the result of a computation with gradients; and where the
    copy shares modules or tensors with the model (`__deepcopy__` returns self), because preparing
    it would change the model.
    """
    results = [tensor for module in model.modules() for tensor in stored_results(module)]
    try:
        known: dict[int, Any] = {id(tensor): tensor.detach() for tensor in results}
        known |= {id(function): function for function in _scripted(model)}
        known |= {id(table): OrderedDict() for table in _empty_tables(model)}
        made = copy.deepcopy(model, known)
    except Exception as error:
        obstacles = list(_obstacles(model)) or [("the model", _first_line(error), False)]
        raise DiagnosticError([_refused(*item) for item in obstacles]) from error
    if shared := _shared(model, made):
        raise DiagnosticError(_not_separate(shared))
    return made


def _shared(model: nn.Module, made: nn.Module) -> list[str]:
    """Paths of modules and tensors of `model` that are also in its copy."""
    there = {id(part) for _, part in _parts(made)}
    return [path for path, part in _parts(model) if id(part) in there]


def _parts(model: nn.Module) -> Iterator[tuple[str, object]]:
    yield from model.named_modules()
    yield from model.named_parameters()
    yield from model.named_buffers()


def _not_separate(shared: list[str]) -> Diagnostic:
    names = quote_list([path or "the model" for path in shared])
    return QS511.diagnostic(
        f"the copy of the model shares {names} with it: a `__deepcopy__` copies nothing",
        help="delete that `__deepcopy__`, or call `prepare(..., inplace=True)`, which changes the "
        "model itself",
    )


def _obstacles(model: nn.Module) -> Iterator[tuple[str, str, bool]]:
    """Yield (path of the attribute, why it cannot be copied, whether it was computed)."""
    for path, module in model.named_modules():
        state = vars(module)
        entries = {key: value for key, value in state.items() if key != "_modules"}
        for table in _TABLES:
            entries |= entries.pop(table)
        for key, value in entries.items():
            if isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value)
            except Exception as error:  # noqa: BLE001 - whatever the attribute's class raises
                name = f"`{path}.{key}`" if path else f"`{key}`"
                yield name, _first_line(error), _is_result(value)


def _is_result(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_leaf


def _scripted(model: nn.Module) -> Iterator[Any]:
    """TorchScript functions that modules hold: nothing changes them, and Python cannot copy
    them."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.jit.ScriptFunction))


def _refused(name: str, why: str, is_result: bool) -> Diagnostic:
    return QS511.diagnostic(
        f"the model cannot be copied: {name}: {why}",
        help="store `tensor.detach()`, or compute the tensor in `forward`"
        if is_result
        else "create the object where it is used instead of storing it in the module, or call "
        "`prepare(..., inplace=True)`, which makes no copy",
    )


def _empty_tables(model: nn.Module) -> Iterator[object]:
    """The tables of hooks and of children that hold nothing. Each module has about ten, and Python
    takes longer to copy one than to copy a parameter."""
    for module in model.modules():
        for value in vars(module).values():
            if type(value) is OrderedDict and not value and not vars(value):
                yield value


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

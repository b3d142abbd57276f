"""Run the float model once, and record the arguments and results of the modules to prepare."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS504, QS505
from qatspec.diag.words import quote_list, suggest
from qatspec.graph.arguments import flat_arguments, register_records
from qatspec.graph.modes import eval_mode
from qatspec.graph.source import model_span


@dataclass(slots=True)
class Call:
    """One module's first call: its arguments and what it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any = None

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        """(name, tensor) of each tensor argument."""
        leaves, _ = pytree.tree_flatten_with_path((self.args, self.kwargs))
        named = []
        for (_, *rest), leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                named.append((f"input{pytree.keystr(tuple(rest))}", leaf))
        return named

    def scales(
        self, module: nn.Module, inputs: Sequence[Any], fixed: Sequence[float | None]
    ) -> tuple[float | None, ...]:
        """The fixed scale of each argument that is one of the model's `inputs`, or a view of one;
        None for other arguments, and where the scale is observed.

        fixed: the scales of `inputs`. In the order of the placeholders of the module's graph."""
        known = {
            x.untyped_storage().data_ptr(): scale
            for x, scale in zip(inputs, fixed, strict=False)
            if isinstance(x, torch.Tensor)
        }
        return tuple(
            known.get(leaf.untyped_storage().data_ptr()) if isinstance(leaf, torch.Tensor) else None
            for leaf in self._leaves(module)
        )

    def _leaves(self, module: nn.Module) -> list[Any]:
        """The arguments' leaves, in the order of forward's signature."""
        function = getattr(module.forward, "__func__", None)
        if function is None:
            return pytree.tree_leaves((self.args, self.kwargs))
        bound = inspect.signature(function).bind(module, *self.args, **self.kwargs)
        return pytree.tree_leaves(flat_arguments(bound)[1])


@dataclass(slots=True)
class Capture:
    """What one run of the float model showed.

    calls: path -> the module's first call. producers: tensor -> path of the module that returned
    it; it keeps no tensor alive, because all tensors of a large model would not fit into memory.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    producers: WeakIdKeyDictionary = field(default_factory=WeakIdKeyDictionary)


def capture(model: nn.Module, example_inputs: Sequence[Any], paths: Iterable[str]) -> Capture:
    """Run `model` in eval mode on the example and record the calls of the modules at `paths`.

    Raises DiagnosticError: QS504 when the model itself fails, QS505 for a path that does not
    exist or was not called.
    """
    wanted = {path: module_at(model, path) for path in paths}
    captured = Capture()
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(_note_producer(captured, name)))
    for path, module in wanted.items():
        handles.append(
            module.register_forward_pre_hook(_note_call(captured, path), with_kwargs=True)
        )
        handles.append(module.register_forward_hook(_note_result(captured, path)))
    try:
        run_once(model, example_inputs, {})
    finally:
        for handle in handles:
            handle.remove()
    if unused := [path for path in wanted if path not in captured.calls]:
        raise QS505.error(
            f"module {quote_list(unused)} did not run on the example input",
            help="prepare only modules that the model's forward calls",
        )
    return captured


def capture_root_call(example_inputs: Sequence[Any]) -> Capture:
    """The call of the model itself, which needs no run: its arguments are the example inputs, and
    its result is not used."""
    return Capture(calls={"": Call(tuple(example_inputs), {})})


def run_once(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Run `model` in eval mode. Raises DiagnosticError QS504 when the model itself fails."""
    try:
        with eval_mode(model), torch.no_grad():
            model(*args, **kwargs)
    except DiagnosticError:
        raise
    except Exception as error:
        raise QS504.error(
            f"the model fails on its example input: {type(error).__name__}: {error}",
            help="compare `model.input`, or `model.inputs`, with what the model takes",
            span=model_span(error.__traceback__),
        ) from error


def module_at(model: nn.Module, path: str, at: str = "") -> nn.Module:
    """Return the submodule at `path`. Raises DiagnosticError QS505, with the nearest name."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name]
        raise QS505.error(
            f"the model has no module `{path}`", help=suggest(path, names), at=at or None
        ) from None


def _note_producer(captured: Capture, name: str) -> Any:
    def hook(module: nn.Module, args: Any, result: Any) -> None:
        register_records(result)
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                captured.producers.setdefault(leaf, name)  # type: ignore[no-untyped-call]

    return hook


def _note_call(captured: Capture, path: str) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        captured.calls.setdefault(path, Call(args, kwargs))

    return hook


def _note_result(captured: Capture, path: str) -> Any:
    def hook(module: nn.Module, args: Any, result: Any) -> None:
        call = captured.calls[path]
        if call.result is None:
            register_records(result)
            call.result = result

    return hook

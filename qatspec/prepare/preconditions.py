"""Checks before tracing: the model must be an ordinary torch module with float32 weights.

A module that tracing would misread (compiled, scripted, replicated, its forward replaced on the
instance) is refused here by name, with the call that gives the module to pass instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import Buffer, UninitializedBuffer, UninitializedParameter

from qatspec.diag import Code, Diagnostic, DiagnosticError
from qatspec.diag.codes import QS507, QS509
from qatspec.diag.words import quote_list
from qatspec.graph.module import TracedModule

#: Named, not imported: importing torch._dynamo takes seconds.
_COMPILED = "OptimizedModule"
_REPLICATED = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)
_STATISTICS = ("running_mean", "running_var")
_ORDINARY = (Tensor, nn.Parameter, Buffer)


def require_module(model: object) -> None:
    """Raise DiagnosticError QS507 for a model that is no nn.Module, or a compiled or scripted one,
    whose Python code cannot be traced."""
    if not isinstance(model, nn.Module):
        name = getattr(model, "__name__", None) or type(model).__name__
        raise DiagnosticError(
            _unusual(
                f"`{name}` is not a torch.nn.Module",
                "put the code into the `forward` of a class derived from torch.nn.Module, and its "
                "parameters and modules into `__init__`",
            )
        )
    problem = _compiled_form(model, "")
    if problem is not None:
        raise DiagnosticError(problem)


def unusual_modules(units: Mapping[str, nn.Module]) -> list[Diagnostic]:
    """Return QS507 for each module that cannot be prepared, and QS507 or QS509 for tensors that are
    not plain float32 ones: one diagnostic for all tensors of a kind.

    units: path -> module to prepare."""
    problems: list[Diagnostic] = []
    alike: dict[_Kind, list[str]] = {}
    for unit_path, unit in units.items():
        problems += _named_as_fx(unit_path, unit)
        for name, module in unit.named_modules():
            path = ".".join(part for part in (unit_path, name) if part)
            problem = _compiled_form(module, path) or _other_form(module, path)
            if problem is not None:
                problems.append(problem)
            for key, tensor in _tensors(module):
                if kind := _kind(tensor):
                    alike.setdefault(kind, []).append(f"{path}.{key}" if path else key)
    for kind, names in alike.items():
        are = "is" if len(names) == 1 else f"({len(names)} tensors) are"
        problems.append(
            kind.code.diagnostic(f"{quote_list(names)} {are} {kind.what}", help=kind.advice)
        )
    return problems


def _named_as_fx(path: str, unit: nn.Module) -> Iterator[Diagnostic]:
    """The parts of a module, and the attributes that its methods read beside `forward`, whose names
    torch.fx uses for what it keeps of a traced module."""
    if isinstance(unit, fx.GraphModule):
        return
    where = f"`{path}`" if path else "the model"
    names = set(dir(TracedModule(nn.Module(), fx.Graph()))).difference(dir(nn.Module()))
    parts = {**unit._parameters, **unit._buffers, **unit._modules}
    taken = [n for n in parts if n in names and not (n == "code" and n in unit._modules)]
    if taken:
        yield _unusual(
            f"{where} has parts whose names torch.fx uses itself: {quote_list(taken)}",
            "rename them, or put the module into another one, `nn.Sequential(model)`, whose keys "
            "in state dicts begin with `0.`",
        )
    others = {n for n in names.difference(parts, ("meta",)) if hasattr(unit, n)}
    if others and (read := sorted(others & _read_by_methods(type(unit)))):
        yield _unusual(
            f"methods of {where} read attributes whose names torch.fx uses itself: "
            f"{quote_list(read)}",
            "rename these attributes",
        )


def _read_by_methods(of: type[nn.Module]) -> set[str]:
    """The names that methods of a class read when a traced module is asked for them: those that no
    other method calls, such as `loss`, with what they call; not `forward` and what builds it."""
    methods = {
        name: _names_in(value)
        for cls in reversed(of.__mro__[: of.__mro__.index(nn.Module)])
        for name, value in vars(cls).items()
        if not name.startswith("__") and name != "forward"
    }
    helpers = _names_in(of.__init__) | _names_in(of.forward)
    helpers.update(*(read - {name} for name, read in methods.items()))
    waiting = [name for name in methods if name in ("loss", "predict") or name not in helpers]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += methods.keys() & methods[name]
    return set().union(*(methods[name] for name in reached))


def _names_in(function: object) -> set[str]:
    """The global names and attributes that a function, or what a property calls, refers to."""
    if isinstance(function, property):
        function = function.fget
    codes = [getattr(inspect.unwrap(function), "__code__", None)] if callable(function) else []
    names: set[str] = set()
    while codes:
        code = codes.pop()
        if isinstance(code, CodeType):
            names.update(code.co_names)
            codes += code.co_consts
    return names


def _compiled_form(module: nn.Module, path: str) -> Diagnostic | None:
    where = f"`{path}`" if path else "the model"
    if isinstance(module, torch.jit.ScriptModule):
        return _unusual(
            f"{where} is a TorchScript module, which has no Python code to trace",
            "pass the nn.Module that `torch.jit.script` or `torch.jit.trace` was given, and load "
            "weights into it with `load_state_dict(scripted.state_dict())`",
        )
    if _is_torchs(module, _COMPILED):
        return _unusual(
            f"{where} is the result of torch.compile",
            f"pass the module inside it, `{path or 'model'}._orig_mod`, and compile the prepared "
            "model instead",
        )
    return None


def _is_own_method(module: nn.Module, forward: object) -> bool:
    """Whether it is a method of the class, chosen in __init__: self.forward = self.fast."""
    function = getattr(forward, "__func__", None)
    method = getattr(type(module), getattr(function, "__name__", ""), None)
    return getattr(forward, "__self__", None) is module and method is function


def _other_form(module: nn.Module, path: str) -> Diagnostic | None:
    where = f"`{path}`" if path else "the model"
    name = path or "model"
    if module._compiled_call_impl is not None:
        return _unusual(
            f"`{name}.compile()` was called, and tracing cannot enter compiled code",
            f"set `{name}._compiled_call_impl = None`, and compile the prepared model instead",
        )
    if _is_torchs(module, *_REPLICATED):
        return _unusual(
            f"{where} is wrapped in {type(module).__name__}",
            f"pass the module inside it, `{name}.module`, and wrap the prepared model instead",
        )
    if "forward" in vars(module) and not _is_own_method(module, vars(module)["forward"]):
        return _unusual(
            f"`forward` of {where} was replaced on the instance, so that the code of its class "
            f"`{type(module).__name__}` is not what runs",
            "define a class derived from that class with the new `forward`, set it as the "
            "module's `__class__`, and delete the attribute `forward`",
        )
    owner = next(base for base in type(module).__mro__ if "__call__" in vars(base))
    ours = owner.__module__.startswith("torch.") or isinstance(module, fx.GraphModule)
    if not ours and not _passes_on(vars(owner)["__call__"]):
        return _unusual(
            f"the class of {where}, `{type(module).__name__}`, overrides `__call__`, which tracing "
            "does not run",
            "rename that method to `forward`",
        )
    return None


class _Passing:
    """Ways to write a `__call__` that only gives its arguments a type."""

    def any(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)  # type: ignore[misc]

    def positional(self, *args: Any) -> Any:
        return super().__call__(*args)  # type: ignore[misc]

    def one(self, x: Any) -> Any:
        return super().__call__(x)  # type: ignore[misc]

    def two(self, x: Any, y: Any) -> Any:
        return super().__call__(x, y)  # type: ignore[misc]


_PASSING = {
    (way.__code__.co_code, way.__code__.co_names)
    for way in (_Passing.any, _Passing.positional, _Passing.one, _Passing.two)
}


def _passes_on(call: Any) -> bool:
    """Whether `call` is nn.Module's `__call__`, or only calls that of the base class."""
    code = getattr(call, "__code__", None)
    same = call is nn.Module.__call__
    return same or (code is not None and (code.co_code, code.co_names) in _PASSING)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, and of the buffers those that must be float32: uninitialized ones,
    those on the meta device, and the statistics of a norm."""
    yield from module.named_parameters(recurse=False)
    norm = isinstance(module, nn.modules.batchnorm._NormBase)
    for key, buffer in module.named_buffers(recurse=False):
        statistic = norm and key in _STATISTICS
        if statistic or isinstance(buffer, _UNINITIALIZED) or buffer.is_meta:
            yield key, buffer


@dataclass(frozen=True, slots=True)
class _Kind:
    """How tensors differ from plain float32 ones, and the fix."""

    what: str
    advice: str
    code: Code = QS509


def _kind(tensor: Tensor) -> _Kind | None:
    """None for a plain float32 tensor, and for integers."""
    if isinstance(tensor, _UNINITIALIZED):
        return _Kind(
            "uninitialized: the shape is not known before the first call",
            "call the model once on an example, `model(*example_inputs)`, before `prepare`",
            QS507,
        )
    if tensor.is_meta:
        return _Kind(
            "on the meta device, without numbers",
            "call `model.to_empty(device='cpu')` and load the weights before `prepare`",
            QS507,
        )
    if type(tensor) not in _ORDINARY:
        return _Kind(
            f"of {type(tensor).__name__}, a subclass of torch.Tensor, where torch.nn.Parameter is "
            "expected",
            "replace it with a `torch.nn.Parameter` of its values",
        )
    if tensor.layout is not torch.strided:
        return _Kind(
            f"sparse ({tensor.layout}), where a dense tensor is expected",
            "replace it with `torch.nn.Parameter(parameter.detach().to_dense())`",
        )
    if tensor.is_quantized:
        return _Kind(
            f"quantized already ({tensor.dtype})",
            "start from the float model: qatspec inserts the quantization itself",
        )
    if tensor.is_complex():
        return _Kind(
            f"complex ({tensor.dtype}), where float32 is expected",
            "compute with real and imaginary parts as two float32 tensors, or list only the other "
            "modules under `quantize: modules`",
        )
    if tensor.is_floating_point() and tensor.dtype is not torch.float32:
        return _Kind(
            f"of {tensor.dtype}, where float32 is expected",
            "call `model.float()` before `prepare`, and pass example inputs of float32",
        )
    return None


def _is_torchs(module: nn.Module, *names: str) -> bool:
    return any(
        base.__name__ in names and base.__module__.startswith("torch.")
        for base in type(module).__mro__
    )


def _unusual(message: str, advice: str) -> Diagnostic:
    return QS507.diagnostic(message, help=advice)

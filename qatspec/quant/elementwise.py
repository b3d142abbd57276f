"""A part of a model that computes a function of one number, as a module: a table in integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

#: Two results of one function of one number differ by rounding alone.
_TOLERANCE = 1e-6
#: Magnitudes of the numbers on which a function is tried.
_MAGNITUDES = (1.0, 30.0)

#: The op of ElementwiseFunction, and of a module that is found to be such a function.
OP = "elementwise_function"


class ElementwiseFunction(nn.Module):
    """Calls that compute a function of one number.

    body   a graph whose first placeholder is the tensor; the others are constants of the model.
    root   holds the modules that the body calls.
    names  by which rules can address the call that was replaced.
    """

    canonical_op = OP

    def __init__(self, body: fx.Graph, root: nn.Module, names: Iterable[str] = ()) -> None:
        super().__init__()
        self.body = fx.GraphModule(root, body)
        self.rule_names = tuple(names)

    def forward(self, x: Tensor, *constants: Any) -> Tensor:
        """x: a float tensor; constants: what else the body reads. A tensor of x's shape."""
        y: Tensor = self.body(x, *constants)
        return y


def values_of(
    module: nn.Module, constants: Iterable[Any], shape: tuple[int, ...], x: Tensor
) -> Tensor:
    """Evaluate a function of one number in eval mode, in the dtype of its numbers.

    module     computes the function from a tensor and `constants`.
    shape      of the tensors that the model calls it with; the first size may be any.
    x          (N,) numbers, float32 or float64.

    Returns (N,) results. Raises what the module raises, such as for a dtype that it does not know.
    """
    with torch.no_grad():
        return evaluated(module, constants, shape, x)


def evaluated(
    module: nn.Module, constants: Iterable[Any], shape: tuple[int, ...], x: Tensor
) -> Tensor:
    """`values_of`, with derivatives where they are recorded."""
    function = copy.deepcopy(module).to("cpu", x.dtype).eval()
    others = [_cast(c, x.dtype) for c in constants]
    size = prod(shape[1:])
    count = -(-x.numel() // max(size, 1))
    numbers = torch.cat([x, x.new_zeros(count * size - x.numel())])
    y: Tensor = function(numbers.reshape(count, *shape[1:]), *others)
    return y.reshape(-1)[: x.numel()]


def is_function_of_one_number(
    function: Callable[[Tensor], Any], shape: tuple[int, ...], dtype: torch.dtype
) -> bool:
    """Return whether each number of the result depends on the number at its place alone, in the
    same way everywhere. It is tried on numbers of several magnitudes.

    function: from a tensor of `shape` and `dtype` to whatever it returns or raises.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(magnitude: float) -> Tensor:
        return (torch.randn(shape, generator=generator) * magnitude).to(dtype)

    count = prod(shape)
    if count < 2:
        return False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for magnitude in _MAGNITUDES:
                x, other = normal(magnitude), normal(magnitude)
                y = function(x.clone())
                if not _is_alike(y, x):
                    return False
                order = torch.randperm(count, generator=generator)
                kept = torch.rand(shape, generator=generator) < 0.5
                moved = function(x.reshape(-1)[order].reshape(shape))
                partly = function(torch.where(kept, x, other))
                same = _is_alike(moved, x) and _is_alike(partly, x)
                same = same and _close(moved.reshape(-1), y.reshape(-1)[order])
                if not same or not _close(partly[kept], y[kept]):
                    return False
                if not torch.equal(torch.nan_to_num(function(x.clone())), torch.nan_to_num(y)):
                    return False  # random
    except Exception:  # noqa: BLE001 - whatever a user's code raises, it is no such function
        return False
    return True


def _is_alike(y: Any, x: Tensor) -> bool:
    return isinstance(y, Tensor) and (y.shape, y.dtype) == (x.shape, x.dtype)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)


def _cast(constant: Any, dtype: torch.dtype) -> Any:
    if not isinstance(constant, Tensor):
        return constant
    constant = constant.detach().cpu()
    return constant.to(dtype) if constant.is_floating_point() else constant

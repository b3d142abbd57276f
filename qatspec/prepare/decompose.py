"""Composite ops become the ops that they consist of.

The integer model computes each of these as a tensor of its own with a scale; as separate ops they
have fake-quants in training too. Each function below is torch's definition of the op that it
replaces, with the same parameters; it gives NotImplemented for a call that stays as it is.
"""

from __future__ import annotations

import math
import operator
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.graph.assign import assign
from qatspec.graph.constants import is_constant
from qatspec.prepare import composites, indexing, moves, parts, sampling, statistics
from qatspec.prepare.appending import Appending, between, example_number, take_place
from qatspec.prepare.assigning import assigned
from qatspec.prepare.parts import leading_sizes, listed, repeat_interleave
from qatspec.prepare.resized import check_sizes


def decompose(root: nn.Module, graph: fx.Graph) -> None:
    """Replace the calls of composite ops in `graph` by what they consist of."""
    for node in list(graph.nodes):
        key = node.target if node.op in ("call_function", "call_method") else None
        definition = _DEFINITIONS.get(key) if isinstance(key, str) or callable(key) else None
        erased = node._erased  # with a call of several results, whose part it was
        if definition is not None and "example" in node.meta and not erased:
            replace_by(definition, root, graph, node)


def replace_by(
    definition: Callable[..., Any], root: nn.Module, graph: fx.Graph, node: fx.Node
) -> None:
    """Replace a call by what its definition gives for the same arguments, unless that is
    NotImplemented."""
    last = node.prev
    tracer = Appending(root, graph, node)
    args, kwargs = pytree.tree_map_only(
        fx.Node, lambda n: fx.Proxy(n, tracer), (tuple(node.args), dict(node.kwargs))
    )
    with graph.inserting_before(node):
        try:
            result = definition(*args, **kwargs)
        except (TypeError, fx.proxy.TraceError):  # another overload, or sizes that are not fixed
            result = NotImplemented
    made, name = between(last, node), node.name
    if result is not NotImplemented:
        check_sizes(root, node, result, made)
    if take_place(node, result, made) and isinstance(result, fx.Proxy) and result.node in made:
        result.node.name = name


def _value(x: Any) -> Any:
    """The example value of a proxy, anything else as it is."""
    return x.node.meta["example"] if isinstance(x, fx.Proxy) else x


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(_value(x).shape)


def _is_float(x: Any) -> bool:
    value = _value(x)
    return isinstance(value, torch.Tensor) and value.is_floating_point()


# -- attention -------------------------------------------------------------------------------------


#: What is added to a masked score: a share of e**-24 is no number of float32 beside 1. -inf would
#: take the whole range of integers.
MASKED = -24.0


def attention_weights(query: Any, key: Any, attn_mask: Any = None, scale: Any = None) -> Any:
    """softmax(query @ key^T * scale + mask). A mask of booleans, True where a key is read, has to
    be a constant of the model."""
    if attn_mask is not None and not _is_float(attn_mask):
        if not is_constant(attn_mask):
            return NotImplemented
        attn_mask = torch.logical_not(attn_mask).to(_value(query).dtype) * MASKED
    scores = torch.matmul(query, torch.transpose(key, -2, -1))
    if scale is None:
        scale = operator.pow(query.shape[-1], -0.5)
    scores = scores * scale
    if attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1)


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
    drop: Callable[[Any], Any] = lambda weights: weights,
) -> Any:
    """attention_weights @ value. drop: what training does with the weights. enable_gqa: several
    heads of the query in a row have one key and value."""
    if dropout_p:
        return NotImplemented
    if example_number(enable_gqa):
        heads = _shape(query)[-3]
        key, value = (
            x if _shape(x)[-3] == heads else repeat_interleave(x, heads // _shape(x)[-3], -3)
            for x in (key, value)
        )
    if example_number(is_causal):
        rows, columns = _shape(query)[-2], _shape(key)[-2]
        attn_mask = query.tracer.buffer(torch.ones(rows, columns, dtype=torch.bool).tril())
    weights = attention_weights(query, key, attn_mask, scale)
    return NotImplemented if weights is NotImplemented else torch.matmul(drop(weights), value)


def _glu(x: Any, dim: int = -1) -> Any:
    """The first half times the sigmoid of the second."""
    halves = torch.chunk(x, 2, dim)
    return halves[0] * torch.sigmoid(halves[1])


# -- norms -----------------------------------------------------------------------------------------


def _rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean of squares + eps) * weight."""
    dims = tuple(range(-len(tuple(normalized_shape)), 0))
    eps = torch.finfo(_value(x).dtype).eps if eps is None else eps
    scaled = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + eps)
    return scaled if weight is None else scaled * weight


# -- arithmetic ------------------------------------------------------------------------------------


def _square(x: Any) -> Any:
    return operator.pow(x, 2)


def _pow(x: Any, exponent: Any) -> Any:
    """A number to the power of a tensor: e to the power of a multiple of it."""
    known = isinstance(x, (int, float)) and x > 0 and _is_float(exponent)
    return torch.exp(exponent * math.log(x)) if known else NotImplemented


def _addcmul(x: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    both = tensor1 * tensor2
    return x + (both if value == 1 else both * value)


def _addcdiv(x: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    ratio = tensor1 / tensor2
    return x + (ratio if value == 1 else ratio * value)


def _addmm(x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    product = torch.matmul(a, b)
    product = product if alpha == 1 else product * alpha
    return product + (x if beta == 1 else x * beta)


def _lerp(x: Any, end: Any, weight: Any) -> Any:
    return x + (end - x) * weight


def _clamp(x: Any, *given: Any, **named: Any) -> Any:
    """Bounds of several numbers, or that follow the input; a buffer of one number is a bound as it
    is."""
    low, high = (*given, None, None)[:2]
    low, high = named.pop("min", low), named.pop("max", high)
    tensors = [isinstance(_value(bound), torch.Tensor) for bound in (low, high)]
    several = [b for b, tensor in zip((low, high), tensors, strict=True) if tensor]
    if named or all(_value(b).numel() == 1 and is_constant(b) for b in several):
        return NotImplemented
    if low is not None:
        x = torch.maximum(x, low) if tensors[0] else torch.clamp(x, min=low)
    if high is not None:
        x = torch.minimum(x, high) if tensors[1] else torch.clamp(x, max=high)
    return x


def _clamp_min(x: Any, *given: Any, **named: Any) -> Any:
    return torch.clamp(x, min=(*given, *named.values())[0])


def _clamp_max(x: Any, *given: Any, **named: Any) -> Any:
    return torch.clamp(x, max=(*given, *named.values())[0])


# -- casts that change nothing -----------------------------------------------------------------


def _cast(x: Any, *args: Any, **kwargs: Any) -> Any:
    """x itself, where it has the type already that it is cast to; devices are the model's own."""
    others = [_value(a) for a in (*args, *kwargs.values())]
    wanted = [a for a in others if isinstance(a, torch.dtype)]
    wanted += [a.dtype for a in others if isinstance(a, torch.Tensor)]
    return x if all(dtype == _value(x).dtype for dtype in wanted) else NotImplemented


def _type(x: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    """As `_cast`; without a type it asks for one."""
    return _cast(x, dtype) if isinstance(dtype, torch.dtype) else NotImplemented


def _as(dtype: torch.dtype) -> Callable[..., Any]:
    return lambda x: _cast(x, dtype)


def _attribute(x: Any, name: str) -> Any:
    """x.data is x, for what is computed from it."""
    return x if name == "data" and _is_float(x) else NotImplemented


def _cat(tensors: Any, dim: int = 0) -> Any:
    """Empty tensors add nothing."""
    if not isinstance(tensors, (list, tuple)):
        return NotImplemented
    kept = [x for x in tensors if _value(x).numel()]
    if len(kept) == len(tensors) or not kept:
        return NotImplemented
    return torch.cat(kept, dim) if len(kept) > 1 else kept[0]


# -- contractions --------------------------------------------------------------------------------


def _einsum(equation: Any, *operands: Any) -> Any:
    """Sums of products of tensors without repeated letters: one matrix product for each further
    tensor, from the left."""
    if not isinstance(equation, str):
        return NotImplemented
    tensors = listed(operands)
    letters = _letters(equation, [_value(x).ndim for x in tensors])
    if letters is None or len(letters) != len(tensors) + 1:
        return NotImplemented
    *inputs, result = letters
    y, had = tensors[0], inputs[0]
    for i, (x, names) in enumerate(zip(tensors[1:], inputs[1:], strict=True), 2):
        later = {*"".join(inputs[i:]), *result}
        kept = "".join(c for c in dict.fromkeys(had + names) if c in later)
        kept = result if i == len(tensors) else kept
        y, had = _contracted(y, had, x, names, kept), kept
    y, had = _summed(y, had, result)
    return torch.permute(y, [had.index(c) for c in result]) if had != result else y


def _letters(equation: str, ranks: Sequence[int]) -> list[str] | None:
    """The letters of each operand and of the result, with `...` as capitals that the equation does
    not have; None where a letter is repeated within one of them."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    spare = [c for c in string.ascii_uppercase if c not in equation]
    counts = [rank - len(x.replace("...", "")) for x, rank in zip(names, ranks, strict=False)]
    open_dims = max((n for n, x in zip(counts, names, strict=False) if "..." in x), default=0)
    ends = spare[:open_dims]
    names = [
        x.replace("...", "".join(ends[len(ends) - n :]))
        for x, n in zip(names, counts, strict=False)
    ]
    if not arrow:  # letters that stand once, in the order of the alphabet
        once = sorted(c for c in {*"".join(names)} - {*ends} if "".join(names).count(c) == 1)
        result = "".join(ends) + "".join(once)
    letters = [*names, result.replace("...", "".join(ends))]
    return letters if all(len({*x}) == len(x) for x in letters) else None


def _summed(x: Any, names: str, kept: str) -> tuple[Any, str]:
    """x summed over the letters that are not kept, and its letters then."""
    dims = [i for i, c in enumerate(names) if c not in kept]
    left = "".join(c for c in names if c in kept)
    return (torch.sum(x, dims), left) if dims else (x, names)


def _contracted(a: Any, first: str, b: Any, second: str, result: str) -> Any:
    """The product of two tensors, summed over what the result lacks."""
    if is_constant(a) and not is_constant(b):
        a, first, b, second = b, second, a, first
    a, first = _summed(a, first, second + result)
    b, second = _summed(b, second, first + result)
    if not second:
        return torch.permute(a * b, [first.index(c) for c in result])
    summed = [c for c in first if c in second and c not in result]
    if not summed and is_constant(b):
        return _spread(a, first, result) * _spread(b, second, result)
    shared = [c for c in first if c in second and c in result]
    left = [c for c in first if c not in second]
    right = [c for c in second if c not in first]
    size = dict(zip(second, leading_sizes(b, len(second)), strict=True))
    size |= dict(zip(first, leading_sizes(a, len(first)), strict=True))
    # where the second is the same for all images, what it shares stays behind the batch
    outer = left[:-1] if shared and first[0] not in shared else []
    rows = left[len(outer) :]
    a = _matrix(a, first, [*outer, *shared], rows, summed)
    b = _matrix(b, second, shared, summed, right)
    for _ in outer:
        b = torch.unsqueeze(b, 0)
    letters_of_product = [*outer, *shared, *rows, *right]
    y = torch.matmul(a, b).reshape(*(size[c] for c in letters_of_product))
    return torch.permute(y, [letters_of_product.index(c) for c in result])


def _spread(x: Any, letters: str, result: str) -> Any:
    """x with its letters in the order of the result, and a dim of 1 for each other letter."""
    x = torch.permute(x, [letters.index(c) for c in result if c in letters])
    for i, c in enumerate(result):
        x = x if c in letters else torch.unsqueeze(x, i)
    return x


def _matrix(x: Any, letters: str, batch: list[str], rows: list[str], columns: list[str]) -> Any:
    """x with its letters in the order batch, rows, columns; rows and columns are one dim each."""
    order = [letters.index(c) for c in (*batch, *rows, *columns)]
    shape = dict(zip(letters, _shape(x), strict=True))
    sizes = dict(zip(letters, leading_sizes(x, len(letters)), strict=True))
    if order != sorted(order):
        x = torch.permute(x, order)
    if len(rows) == 1 and len(columns) == 1:
        return x

    def merged(names: list[str]) -> Any:
        if any(not isinstance(sizes[c], int) for c in names):
            return -1
        count = 1
        for c in names:
            count *= shape[c]
        return count

    return x.reshape(*(sizes[c] for c in batch), merged(rows), merged(columns))


_DEFINITIONS: Mapping[Any, Callable[..., Any]] = {
    **statistics.DEFINITIONS,
    **parts.DEFINITIONS,
    **moves.DEFINITIONS,
    **indexing.DEFINITIONS,
    **composites.DEFINITIONS,
    **sampling.DEFINITIONS,
    assign: assigned,
    torch.empty_like: lambda x, **settings: torch.zeros_like(x, **settings),
    F.scaled_dot_product_attention: attention,
    F.glu: _glu,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    **dict.fromkeys((torch.square, "square"), _square),
    **dict.fromkeys((torch.pow, operator.pow), _pow),
    **dict.fromkeys((torch.addcmul, "addcmul"), _addcmul),
    **dict.fromkeys((torch.addcdiv, "addcdiv"), _addcdiv),
    **dict.fromkeys((torch.addmm, "addmm", torch.baddbmm, "baddbmm"), _addmm),
    **dict.fromkeys((torch.lerp, "lerp"), _lerp),
    **dict.fromkeys((torch.clamp, torch.clip, "clamp", "clip"), _clamp),
    **dict.fromkeys((torch.clamp_min, "clamp_min"), _clamp_min),
    **dict.fromkeys((torch.clamp_max, "clamp_max"), _clamp_max),
    **dict.fromkeys(("to", "type_as", "cpu", "cuda"), _cast),
    "type": _type,
    "float": _as(torch.float32),
    "double": _as(torch.float64),
    "half": _as(torch.float16),
    "bfloat16": _as(torch.bfloat16),
    getattr: _attribute,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    torch.einsum: _einsum,
    torch.functional.einsum: _einsum,
}

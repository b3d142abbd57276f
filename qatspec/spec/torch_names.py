"""Names of Python objects in a spec, against the committed table of torch's symbols.

Nothing is imported: a name is good when the table or a plugin has it. Classes of other packages
(`my_net.blocks.Conv`) are matched by what they are called, so any name of theirs passes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from qatspec.diag import Diagnostic, Fix
from qatspec.diag.codes import QS308
from qatspec.diag.words import nearest, sure_correction
from qatspec.registry import Registry
from qatspec.schema import torch_symbols
from qatspec.source.pointer import join

#: First parts of names that the table answers for, and what short ones stand for.
_HEADS = ("torch", "operator", "builtins")
_SHORT = {"nn": "torch.nn", "F": "torch.nn.functional"}
#: Where a name that stands in the wrong namespace is looked for, in order.
_HOMES = ("torch.nn", "torch", "torch.nn.functional", "operator", "torch.Tensor")


def check_op(name: str, at: str, names: Registry, *, key: bool = False) -> Iterator[Diagnostic]:
    """An op as `object_type` rules name it. key: the name is the key at `at`, not its value."""
    ops = {op for handler in names.quant_handlers() for op in handler.ops}
    if name in ops or name in _symbols():
        return
    if "." not in name or name.partition(".")[0] in (*_HEADS, *_SHORT):
        yield _unknown(name, at, key, ops, names)


def check_class(name: str, at: str, names: Registry, *, key: bool = False) -> Iterator[Diagnostic]:
    """A class or function as `prepare` names it: only names of torch are known here."""
    if name.partition(".")[0] in (*_HEADS, *_SHORT) and "." in name and name not in _symbols():
        yield _unknown(name, at, key, (), names)


def check_classes(classes: Any, at: str, names: Registry) -> Iterator[Diagnostic]:
    """Every class in a value of `prepare`: names, patterns of names, or a mapping of either."""
    if isinstance(classes, str):
        yield from check_class(classes, at, names)
    elif isinstance(classes, Mapping):
        for name, value in classes.items():
            if isinstance(name, str):
                yield from check_class(name, join(at, name), names, key=True)
                yield from check_classes(value, join(at, name), names)
    elif isinstance(classes, list | tuple):
        for index, value in enumerate(classes):
            yield from check_classes(value, join(at, index), names)


@cache
def _symbols() -> frozenset[str]:
    return frozenset(
        f"{namespace}.{name}"
        for namespace, names in torch_symbols()["namespaces"].items()
        for name in names
    )


def _unknown(name: str, at: str, key: bool, ops: Iterable[str], names: Registry) -> Diagnostic:
    near, sure = _meant(name, ops, names.spellings())
    what = f"torch has no `{name}`" if name.startswith("torch.") else f"no op is called `{name}`"
    return QS308.diagnostic(
        what,
        help=f"did you mean `{near}`?" if near else "write the full name, as `torch.nn.Conv2d`",
        at=at,
        key=key,
        fix=Fix(f"`{name}` -> `{near}`", text=near) if near and sure else None,
    )


def _meant(
    name: str, ops: Iterable[str], spellings: Mapping[str, Sequence[str]]
) -> tuple[str | None, bool]:
    """(the name that was meant, is that sure). spellings: by op."""
    table = torch_symbols()["namespaces"]
    namespace, _, last = name.rpartition(".")
    head, _, rest = namespace.partition(".")
    namespace = ".".join(p for p in (_SHORT.get(head, head), rest) if p)
    if last in table.get(namespace, ()):
        return f"{namespace}.{last}", True
    if same := [f"{home}.{last}" for home in _HOMES if last in table[home]]:
        return same[0], len({_op(candidate, spellings) for candidate in same}) == 1
    if candidate := [n for n in table if last in table[n] and not n.startswith("torch.nn.modules")]:
        return f"{candidate[0]}.{last}", False
    beside = table.get(namespace, ())
    if near := nearest(last, beside):
        return f"{namespace}.{near}", sure_correction(last, beside) == near
    if not namespace and (near := nearest(last, sorted(ops))):
        return near, sure_correction(last, ops) == near
    return nearest(name, sorted(_symbols())), False


def _op(symbol: str, spellings: Mapping[str, Sequence[str]]) -> str:
    """The canonical op that a symbol spells; the symbol itself where no handler has it."""
    return next((op for op, names in spellings.items() if symbol in names), symbol)

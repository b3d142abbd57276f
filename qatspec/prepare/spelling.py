"""Names of modules and tensors that can stand in Python code, as torch.fx writes it."""

from __future__ import annotations

import ast
import keyword
import unicodedata
from collections.abc import Iterator, Mapping

from torch import nn

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS516


def unwritable_names(units: Mapping[str, nn.Module]) -> Iterator[Diagnostic]:
    """Yield QS516 for each module, parameter and buffer whose name torch.fx cannot write as code.

    units: path -> module to prepare.
    """
    for unit_path, unit in units.items():
        for path, module in unit.named_modules():
            for name in (*module._modules, *module._parameters, *module._buffers):
                full = ".".join(part for part in (unit_path, path, name) if part)
                if not _can_be_written(name) or full == "self":
                    yield _unwritable(full, name)


def _unwritable(full: str, name: str) -> Diagnostic:
    return QS516.diagnostic(
        f"the name `{full}` cannot stand in the Python code that tracing writes",
        help=f"give `{name}` another name, such as `{_another(name)}`, where the model registers "
        "it: the attribute, or the key of the ModuleDict or ParameterDict",
    )


def _can_be_written(name: str) -> bool:
    """Return whether torch.fx's code for an attribute (`.NAME`, or `getattr(_, "NAME")` where it is
    no identifier) reads the same attribute."""
    if name.isidentifier():
        return not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    try:
        return bool(ast.literal_eval(f'"{name}"') == name)
    except (SyntaxError, ValueError):  # UnicodeEncodeError is a ValueError
        return False


def _another(name: str) -> str:
    """A name that can be written, as near to `name` as possible."""
    letters = unicodedata.normalize("NFKC", name)
    return "".join(c if f"a{c}".isidentifier() else "_" for c in letters) + "_"

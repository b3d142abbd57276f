"""A spec file, those that it extends and the command line's overrides, as one Document."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from qatspec.diag import Code, DiagnosticError, Span
from qatspec.diag.codes import QS108, QS111, QS115, QS303, QS307
from qatspec.source import overrides as command_line
from qatspec.source.document import Document, to_document
from qatspec.source.fixes import place_fix
from qatspec.source.merge import merge
from qatspec.source.parse import COMMAND_LINE, parse
from qatspec.source.references import substitute
from qatspec.source.text import check_text, read_text
from qatspec.source.tree import Tree, kind_of

_MAX_EXTENDS = 16
_SPEC_FILES = (".yaml", ".yml")
#: A spec to start from, for who has none yet.
SMALLEST = """\
qatspec: 1
name: my-run
march: bayes
model: {type: fcos, params: {num_classes: 10}, input: {size: [128, 128]}}
data:
  train:
    type: digits_detection
    params: {split: train, images: 200, size: 128}
    batch_size: 8
  val:
    type: digits_detection
    params: {split: val, images: 50, size: 128}
stages:
  float: {trainer: {epochs: 10, optimizer: {type: sgd, lr: 0.01}}}
"""


def load_document(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    smoke: bool = False,
    allow_unset: bool = False,
) -> Document:
    """Read `path`, merge what it extends, apply overrides ("vars.fast=1"), resolve references.

    smoke: merge the spec's `smoke` over the rest first. allow_unset: take the name of a variable of
    the environment that is not set for its value.
    Raises DiagnosticError with places; its `texts` hold the lines to show.
    """
    texts: dict[str, str] = {}
    if overrides:
        texts[COMMAND_LINE] = "\n".join(overrides)
    tree = None
    try:
        tree = _read(Path(path), str(path), None, (), texts)
        read = _with_smoke(tree) if smoke else tree
        resolved = substitute(command_line.apply(read, overrides), allow_unset=allow_unset)
        return to_document(resolved, str(path), texts)
    except DiagnosticError as error:
        placed = [replace(d, fix=place_fix(d.fix, d.span, texts)) for d in error.diagnostics]
        if tree is not None and not smoke and _needs_none(error, tree, overrides):
            placed = [
                replace(d, help=f"{d.help}; `qatspec run {path} --smoke` needs none")
                for d in placed
            ]
        raise DiagnosticError(placed, {**texts, **error.texts}) from None
    except RecursionError:
        # references to references to deep values: each is within bounds, their product is not
        file_span = Span(str(path))
        raise DiagnosticError(
            _fail(QS108, "nested too deep", file_span, "flatten it").diagnostics, texts
        ) from None


def _read(
    path: Path,
    shown: str,
    named_at: Span | None,
    chain: tuple[str, ...],
    texts: dict[str, str],
    name: str = "",
) -> Tree:
    real = os.path.normpath(path.absolute())
    if real in chain:
        names = " -> ".join(Path(p).name for p in (*chain[chain.index(real) :], real))
        advice = (
            "take this `extends` out, or another one of the circle; what both files need belongs "
            "into a file that extends nothing"
        )
        raise _fail(QS307, f"files extend each other in a circle: {names}", named_at, advice)
    if len(chain) >= _MAX_EXTENDS:
        message = f"more than {_MAX_EXTENDS} files extend one another"
        raise _fail(QS108, message, named_at, "merge some of them")
    text = read_text(path, shown=shown, name=name, named_at=named_at)
    texts[shown] = text
    check_text(text, shown)
    tree = parse(text, shown)
    if tree is None or not isinstance(tree.value, dict):
        what = "empty" if tree is None else kind_of(tree.value)
        file_start = Span(shown, 1, 1, 1, 1)
        advice = (
            "write these lines and put your names and numbers in; `qatspec new quickstart` writes "
            f"a spec with all five stages\n{SMALLEST}"
        )
        raise _fail(QS111, f"a spec is a mapping of keys, this is {what}", file_start, advice)
    merged: Tree | None = None
    for base_name, span in _extended(tree.value.get("extends")):
        if not base_name.endswith(_SPEC_FILES):
            # a message shows lines of a file that is no spec, which may be of any kind
            message = f"`{base_name}` is not the name of a spec: it does not end in .yaml or .yml"
            raise _fail(QS115, message, span, "delete it from `extends`, or rename the file")
        base_shown = os.path.normpath(Path(shown).parent / base_name)
        base = _read(path.parent / base_name, base_shown, span, (*chain, real), texts, base_name)
        merged = base if merged is None else merge(merged, base)
    return tree if merged is None else merge(merged, tree)


def _with_smoke(tree: Tree) -> Tree:
    """What is no mapping is left to the schema to report."""
    smoke = cast("dict[str, Tree]", tree.value).get("smoke")
    return merge(tree, smoke) if smoke and isinstance(smoke.value, dict) else tree


def _needs_none(error: DiagnosticError, tree: Tree, overrides: Sequence[str]) -> bool:
    """Whether the spec lacks environment variables alone, none of which its `smoke` asks for."""
    if any(d.code != QS303 for d in error.diagnostics):
        return False
    with_smoke = _with_smoke(tree)
    if with_smoke is tree:
        return False
    try:
        substitute(command_line.apply(with_smoke, overrides))
    except DiagnosticError:
        return False
    return True


def _extended(entry: Tree | None) -> list[tuple[str, Span]]:
    """The files that `extends` names. What is not a text is left to the schema to report."""
    if entry is None:
        return []
    items = entry.value if isinstance(entry.value, list) else [entry]
    return [(i.value, i.span) for i in items if isinstance(i.value, str)]


def _fail(code: Code, message: str, span: Span | None, advice: str) -> DiagnosticError:
    return code.error(message, help=advice, span=span)

"""Mutation testing: small changes of the code that some test must notice.

    pip install cosmic-ray
    python -m tests.bench.code_mutants [--part rules ...] [--sample 12] [--seed 0]

Mutants are those of cosmic-ray's operators, without those of type annotations, which never run. Of
each part below, `--sample` of them are drawn and tried with the tests named there: one after the
other, in a process that is forked from one with torch imported, so that a mutant takes seconds. The
module's file is not changed: the child imports the mutant's source in its place. A mutant that no
test notices "survives" and is printed as a difference. Exit code 1 where the tests fail without a
mutant.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
LIMIT_S = 120  # CPU time of a mutant; one that never ends is noticed
UNUSED = ("ReplaceBinaryOperator_BitOr",)  # `X | None` of annotations
#: part -> (modules, test files)
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rules": (("qatspec.spec.rules",), ("tests/unit/spec/test_rules.py",)),
    "requantization": (
        ("qatspec.program.requantize",), ("tests/unit/program/test_requantize.py",)
    ),
    "bounds": (
        ("qatspec.kinds.requantization.kind", "qatspec.kinds.products.kind"),
        (
            "tests/unit/program/test_requantize.py",
            "tests/unit/kinds/test_table.py",
            "tests/unit/kinds/test_bounds.py",
        ),
    ),
    "digests": (("qatspec.plan.digest",), ("tests/unit/plan/test_digest.py",)),
    "scheduler": (
        ("qatspec.backend.schedule",),
        ("tests/unit/backend/test_schedule.py", "tests/unit/backend/test_plan.py"),
    ),
}  # fmt: skip


class Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a text."""

    def __init__(self, module: str, text: str, file: Path) -> None:
        self.module, self.text, self.file = module, text, file

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        return importlib.util.spec_from_loader(name, self, origin=str(self.file))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.file)
        exec(compile(self.text, str(self.file), "exec"), module.__dict__)


def file_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def _behaviour(text: str) -> str:
    """The code without annotations and docstrings, to leave out mutants of these."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def mutants(module: str) -> Iterator[tuple[str, str]]:
    """(operator, source) of every mutant."""
    from cosmic_ray.ast import get_ast
    from cosmic_ray.mutating import MutationVisitor
    from cosmic_ray.plugins import get_operator, operator_names

    text = file_of(module).read_text("utf-8")
    plain, seen = _behaviour(text), set()
    for name in sorted(operator_names()):
        if any(word in name for word in UNUSED):
            continue
        with contextlib.suppress(TypeError):  # an operator that needs arguments
            operator = get_operator(name)()
            count = 0
            while True:
                visitor = MutationVisitor(count, operator)
                changed = visitor.walk(get_ast(text)).get_code()
                if not visitor.mutation_applied:
                    break
                count += 1
                with contextlib.suppress(SyntaxError):
                    shape = _behaviour(changed)
                    if shape != plain and shape not in seen:
                        seen.add(shape)
                        yield name.partition("/")[2], changed


def outcome(module: str, text: str, tests: tuple[str, ...]) -> tuple[bool, float]:
    """Whether the tests fail with this source of the module; CPU seconds."""
    child = os.fork()
    if not child:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            import resource

            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
            sys.meta_path.insert(0, Source(module, text, file_of(module)))
            import pytest

            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header"]
            status = int(pytest.main([*options, *tests]))
        finally:
            os._exit(status)
    _, code, usage = os.wait4(child, 0)
    return code != 0, usage.ru_utime + usage.ru_stime


def tried(part: str, sample: int, rng: random.Random) -> tuple[int, int] | None:
    """(noticed, tried) of a part; None where its tests fail without a mutant."""
    modules, tests = PARTS[part]
    first = modules[0]
    failed, _ = outcome(first, file_of(first).read_text("utf-8"), tests)
    if failed:
        print(f"{part}: the tests fail without a mutant")
        return None
    pool = [(module, *mutant) for module in modules for mutant in mutants(module)]
    chosen = rng.sample(pool, min(sample, len(pool)))
    noticed, begun, seconds = 0, time.perf_counter(), 0.0
    for module, operator, text in chosen:
        failed, took = outcome(module, text, tests)
        seconds += took
        noticed += failed
        if not failed:
            old, new = (source.splitlines() for source in (file_of(module).read_text(), text))
            lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
            print(f"{part}: survived: {module} {operator}\n" + "\n".join(lines), flush=True)
    print(
        f"{part}: {noticed} of {len(chosen)} noticed ({len(pool)} mutants; {seconds:.0f} CPU s, "
        f"{time.perf_counter() - begun:.0f} s)",
        flush=True,
    )
    return noticed, len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--sample", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    import numpy  # noqa: F401  once, before the forks
    import torch

    torch.set_num_threads(1)
    results = [
        tried(part, options.sample, random.Random(f"{part} {options.seed}"))
        for part in options.part
    ]
    counted = [result for result in results if result]
    print(f"all: {sum(n for n, _ in counted)} of {sum(t for _, t in counted)} noticed")
    return 0 if len(counted) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())

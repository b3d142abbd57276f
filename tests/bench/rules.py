"""CPU seconds to decide 5,000 modules by 5,000 rules, and to find the rules that match nothing.

    python tests/bench/rules.py

A budget of a second each; tests/unit/spec/test_coverage.py counts the patterns that are tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qatspec.spec import Call, QConfigRules, Rule, check_rules
from qatspec.types import QConfig

COUNT = 5000
KEYS: dict[str, tuple[str, Callable[[int], str]]] = {
    "names": ("module_name", lambda i: f"stage{i % 50}.block{i}"),
    "names that match nothing": ("module_name", lambda i: f"stage{i % 50}.blok{i}"),
    "regexes": ("module_name_regex", lambda i: rf"stage{i % 50}\.block{i}\.conv"),
    "regexes that match nothing": ("module_name_regex", lambda i: rf"stge{i % 50}\.block{i}.*"),
    "types": ("object_type", lambda i: f"my.Op{i}"),
}


def seconds(what: str, count: int = COUNT) -> tuple[float, int]:
    """(CPU seconds, warnings) of one kind of rules."""
    kind, key = KEYS[what]
    rules = QConfigRules(
        rules=tuple(Rule(kind=kind, key=key(i), value=QConfig()) for i in range(count))  # type: ignore[arg-type]
    )
    calls = [
        Call(
            node=f":conv_{i}", unit="", entry="", module=f"stage{i % 50}.block{i}.conv",
            names=("conv2d", "torch.nn.Conv2d", f"my.Op{i}"), index=0,
        )
        for i in range(count)
    ]  # fmt: skip
    start = time.process_time()
    found = check_rules([(rules, calls)])
    return time.process_time() - start, len(found)


if __name__ == "__main__":
    for name in KEYS:
        spent, found = seconds(name)
        print(f"{name:28} {spent:6.2f} s  {found:5} warnings")

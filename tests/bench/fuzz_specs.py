"""Random and mutated specs: none may end in a traceback, a hang or a flood of memory.

    python tests/bench/fuzz_specs.py                       # resumes where it stopped
    python tests/bench/fuzz_specs.py --count 200000 --seconds 600 --state fuzz.json

Input number i is made from (seed, i) alone, so a run can stop at any time, resume later, and show
any input again (`--show I`). Every input goes through load, the plugins' checks, resolve and every
format of diagnostics, in child processes (`fuzzing.py`). Budget: about 20 minutes of one core for
the 200,000 inputs; CI runs 1,500 (tests/property/test_fuzz.py).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzing
import yaml

from qatspec.diag import DiagnosticError, PluginFault
from qatspec.plan import resolve
from qatspec.render import FORMATS, render
from qatspec.spec import load, warnings

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "diagnostics"
PIECES = [
    "${vars.a}", "${vars.a.${vars.b}}", "${env:HOME}", "$${", "${", "}", "*a", "&a ", "- ", ": ",
    "{", "[", "]", "!replace ", "!!str ", "!!python/object ", "<<: *a", "\t", "'", '"', "\n",
    "\r\n", "  ", "#", "null", "true", "on", "010", "0x1F", "1e999", ".inf", "1:30", "~",
    "-1", "1e-4", "9" * 400, "extends: spec.yaml\n", "extends: [a.yaml, base.yaml]\n", "|\n",
    ">-\n",
    "? ", "---\n", "...\n", "%YAML 1.1\n", "\u2028", "\ufeff", "\x00", "\x1b[31m", "\U0001f600",
    "<<<<<<< a\n", "=======\n", ">>>>>>> b\n", "(a+)+$", "(.*)*x", "(a|ab)*", "\\1(?=", "[[[[",
    "torch.nn.Conv2D", "torch.nn.functional.add", "object_type", "module_name_regex", "modules",
    "qconfig", "prepare", "stages", "vars: {a: *a}\n", "vars: &v {a: [*v]}\n",
    "plugins: [./x.py]\n", "horizon_qat", "horizon_calibrated", "modules", "standalone_module_name",
]  # fmt: skip
SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**30, 0.5, 1e-300, "", "x", "on", "8", "bayes", "j5", "net",
    [], {}, [1], ["a", None], {"a": 1}, {"": None}, {"modules": {"a": {}}}, "${vars.a}", [[]],
    {"object_type": {"torch.nn.Conv2D": None}}, {"module_name_regex": {"(a+)+": None}},
    {"type": "sgd", "lr": 1}, {"trainer": {"steps": 1}}, [["a", None]], [["a", "b", 0, None]],
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="inputs in all")
    parser.add_argument("--seconds", type=float, default=1200.0, help="budget of this run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file to go on from, and to keep figures in")
    parser.add_argument("--show", type=int, help="print input number I and stop")
    given = parser.parse_args()
    if given.show is not None:
        sys.stdout.buffer.write(make(given.seed, given.show))
        return
    figures = fuzzing.run(
        target, count=given.count, seconds=given.seconds, seed=given.seed, state=given.state
    )
    print(json.dumps(figures, indent=2))
    sys.exit(fuzzing.failed(figures))


def make(seed: int, index: int) -> bytes:
    """Input number `index`."""
    rng = random.Random(f"{seed}:{index}")
    makers: list[Callable[[random.Random], bytes]] = (
        [_changed] * 6 + [_mutated] * 3 + [_spliced, _random, _deep]
    )
    return rng.choice(makers)(rng)


def _changed(rng: random.Random) -> bytes:
    """A good spec whose values and keys are changed, so that it gets past the parser."""
    spec = copy.deepcopy(rng.choice(_parsed()))
    for _ in range(rng.randint(1, 4)):
        _change(spec, rng)
    return json.dumps(spec, default=str).encode()


def _change(value: Any, rng: random.Random) -> None:
    """Change one thing somewhere below `value`."""
    while isinstance(value, dict | list) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.8:
            value = value[key]
            continue
        kind = rng.randrange(5)
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(value, dict):
            at = rng.randint(0, len(str(key)))
            value[str(key)[:at] + rng.choice("abx_. ") + str(key)[at + 1 :]] = value.pop(key)
        elif kind == 2:
            value[key] = copy.deepcopy(rng.choice(SCALARS))
        elif kind == 3 and isinstance(value, dict):
            value[rng.choice(PIECES)] = copy.deepcopy(rng.choice(SCALARS))
        else:
            value[key] = f"{value[key]}{rng.choice(PIECES)}"
        return


def _mutated(rng: random.Random) -> bytes:
    text = rng.choice(_specs())
    for _ in range(rng.randint(1, 6)):
        at, cut = rng.randint(0, len(text)), rng.choice((0, 0, 1, 4, 12, 60))
        piece = rng.choice(PIECES) if rng.random() < 0.8 else text[at : at + rng.randint(1, 80)]
        text = text[:at] + piece * rng.choice((1, 1, 1, 2, 50)) + text[at + cut :]
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randint(0, len(data))
        data = data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at + 1 :]
    return data


def _spliced(rng: random.Random) -> bytes:
    """Lines of several specs, shuffled a little."""
    lines = rng.choice(_specs()).splitlines(True) + rng.choice(_specs()).splitlines(True)
    for _ in range(rng.randint(1, 8)):
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], rng.choice(("", "  ", "    ")) + lines[a]
    return "".join(lines).encode("utf-8", "surrogatepass")


def _random(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.randbytes(rng.randint(0, 400))
    return "".join(rng.choices(PIECES, k=rng.randint(1, 40))).encode("utf-8", "surrogatepass")


def _deep(rng: random.Random) -> bytes:
    """Depth, aliases of aliases, references of references, long keys, many rules."""
    size = rng.choice((5, 20, 70, 500))
    kind = rng.randrange(6)
    if kind == 0:
        return (rng.choice("[{") * size).encode()
    if kind == 1:
        rows = [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, size)]
        return "\n".join(["a0: &a0 [1, 2]", *rows]).encode()
    if kind == 2:
        rows = [f'  v{i}: "${{vars.v{i - 1}}}${{vars.v{i - 1}}}"' for i in range(1, size)]
        return "\n".join(["vars:", "  v0: xx", *rows]).encode()
    if kind == 3:
        return ("".join("  " * i + f"k{i}:\n" for i in range(size))).encode()
    pattern = "".join(
        rng.choices(["(", ")", "a", "+", "*", "|", ".", "[", "]", "{9}", "?"], k=size)
    )
    text = rng.choice(_specs())
    rule = json.dumps(pattern)
    return (text + f"\nquantize:\n  qconfig:\n    module_name_regex: {{{rule}: null}}\n").encode()


def _specs() -> list[str]:
    if not _SPECS:
        found = [*CASES.glob("QS*/spec.yaml"), *CASES.glob("QS*/fixed.yaml")]
        texts = {path.read_bytes().decode("utf-8", "replace") for path in found}
        texts.update(path.read_text() for path in (ROOT / "specs").rglob("*.yaml"))
        _SPECS.extend(sorted(texts))
    return _SPECS


def _parsed() -> list[Any]:
    if not _PARSED:
        for text in _specs():
            if "&" in text:  # an alias bomb must not go off here
                continue
            with contextlib.suppress(yaml.YAMLError):
                if isinstance(value := yaml.safe_load(text), dict):
                    _PARSED.append(value)
    return _PARSED


_SPECS: list[str] = []
_PARSED: list[Any] = []


def target(folder: Path) -> Callable[[int, int], fuzzing.Tried]:
    """What tries the spec of a number, with the plugins of tests/diagnostics."""
    spec = importlib.util.spec_from_file_location("qatspec_fuzz_plugin", CASES / "plugin.py")
    assert spec is not None and spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = fake
    spec.loader.exec_module(fake)
    names = fake.fake_registry()
    path = folder / "spec.yaml"
    (folder / "base.yaml").write_text("qatspec: 1\nvars: {a: 1}\n")
    path.write_bytes(_specs()[0].encode())
    tried(path, names)

    def attempt(seed: int, index: int) -> fuzzing.Tried:
        path.write_bytes(make(seed, index))
        return tried(path, names)

    return attempt


def tried(path: Path, names: Any) -> tuple[list[str], str]:
    """(the codes that a spec ends in, the traceback where it ended in anything else)."""
    try:
        spec = load(path, registry=names)
        found, texts = warnings(spec, names), spec.document.texts
        resolve(spec, registry=names)
    except DiagnosticError as error:
        found, texts = error.diagnostics, error.texts
    except PluginFault:
        return ["plugin"], ""
    except BaseException:  # noqa: BLE001  anything at all is a finding
        return [], traceback.format_exc()[-2000:]
    try:
        for name in FORMATS:
            render(found, texts, name)
        if any(d.span is None for d in found):
            return [], f"no place: {found}"[:2000]
    except BaseException:  # noqa: BLE001
        return [], traceback.format_exc()[-2000:]
    return sorted({d.code for d in found}), ""


if __name__ == "__main__":
    main()

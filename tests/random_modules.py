"""Random modules as Python source, from a grammar of what people write in `forward`: shapes used as
numbers, slices, containers, in-place ops, views, helpers, shared modules, several outputs.

`write_module(seed)` gives the source, the same for the same seed: paste it to reproduce a case.
The statements are in modules/grammar.txt, the helpers that they call in modules/prelude.py. Each
statement is tried on real tensors while it is written; one that fails there is left out.
"""

from __future__ import annotations

import functools
import linecache
import random
import re
import sys
import types
import warnings
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "modules"
RANKS = {"maps": 4, "rows": 3}
RETURNS = (
    "return $a", "return $a", "return $a", "return $a, $b", "return [$a, $b, $c]",
    'return {"out": $a, "aux": [$b, $c]}', "return Pair($a, $b)", "return ($a, ($b,))",
    "return $a.flatten(1)", 'return {"b": $b, "a": Maps($a, far=$c)}',
)  # fmt: skip
NET = """

class Net(Base):
    def __init__(self):
        super().__init__()
{init}

    def forward(self, x):
{body}
"""


@functools.cache
def grammar() -> dict[str, list[str]]:
    """section -> its statements."""
    _, *sections = re.split(r"^# (\w+)$", (FOLDER / "grammar.txt").read_text(), flags=re.MULTILINE)
    return {
        name: re.split(r"\n\s*\n", text.strip())
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


class Writer:
    """Writes one module. values: name -> the tensor that it had for the example input."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.init: list[str] = []
        self.body: list[str] = []
        self.count = 0
        generator = torch.Generator().manual_seed(seed)
        size = (self.rng.randint(6, 14), self.rng.randint(6, 14))
        self.example = torch.randn(2, self.rng.choice((2, 3, 4)), *size, generator=generator)
        self.space: dict[str, Any] = vars(load((FOLDER / "prelude.py").read_text(), "prelude"))
        torch.manual_seed(seed)
        self.net = self.space["Base"]().eval()
        self.values: dict[str, Tensor] = {"x": self.example}

    def source(self) -> str:
        """The whole module, of three to nine statements."""
        left = self.rng.randint(3, 9)
        for _ in range(12 * left):
            left -= self.statement()
            if not left:
                break
        names = [n for n in self.values if n != "x"][-3:][::-1] or ["x"]
        a, b, c = (names * 3)[:3]
        self.body.append(Template(self.rng.choice(RETURNS)).substitute(a=a, b=b, c=c))
        indented = ["\n".join(f"        {ln}" for ln in part) for part in (self.init, self.body)]
        prelude = (FOLDER / "prelude.py").read_text()
        return prelude + NET.format(init=indented[0], body=indented[1])

    def statement(self) -> bool:
        """Write one more statement; False where it does not run on the example."""
        section = self.rng.choices(list(RANKS), (4, 1))[0]
        names = [n for n, v in self.values.items() if v.ndim == RANKS[section]]
        if not names:
            return False
        text = self._filled(self.rng.choice(grammar()[section]), self.rng.choice(names[-4:]))
        lines = text.splitlines()
        init = [ln for ln in lines if re.match(r"self\.(\w+(, self\.\w+)* = |register)", ln)]
        body = [ln for ln in lines if ln not in init]
        space = {**self.space, **self.values, "self": self.net}
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec("\n".join(init), space)
                self.net.eval()
                exec("\n".join(body), space)
        except Exception:  # noqa: BLE001 - it does not fit the shapes
            return False
        made = {n: space[n] for n in space if re.fullmatch(r"x|y\d+", n)}
        if not all(self._fits(v) for v in made.values()):
            return False
        self.values = {n: v.clone() for n, v in made.items()}
        self.init += init
        self.body += body
        return True

    def _filled(self, entry: str, x: str) -> str:
        shape = self.values[x].shape
        alike = [n for n, v in self.values.items() if v.shape == shape]
        maps = [n for n, v in self.values.items() if v.ndim == 4]
        known = {"x": x, "z": self.rng.choice(alike), "u": self.rng.choice(maps)}
        sizes = dict(zip("chw" if len(shape) == 4 else "ld", shape[1:], strict=True))
        known |= {"k": str(self.rng.randint(2, 8)), **{n: str(s) for n, s in sizes.items()}}
        self.count += 1
        names = set(re.findall(r"\$(\w+)", entry))
        return Template(entry).substitute({n: f"{n}{self.count}" for n in names} | known)

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return False
        batch = value.ndim >= 2 and value.shape[0] == self.example.shape[0]
        small = 0 < value.numel() <= 6000 and value.isfinite().all() and value.abs().max() < 100
        return bool(batch and small)


def write_module(seed: int) -> tuple[str, Tensor]:
    """(source of a module that has a class Net, its example input)."""
    writer = Writer(seed)
    return writer.source(), writer.example


def load(source: str, name: str = "random_module") -> types.ModuleType:
    """The source as a loaded module; its lines can be shown."""
    made = types.ModuleType(name)
    made.__file__ = f"{name}.py"
    linecache.cache[made.__file__] = (len(source), None, source.splitlines(True), made.__file__)
    sys.modules[name] = made
    exec(compile(source, made.__file__, "exec"), vars(made))
    return made


def random_module(seed: int) -> tuple[nn.Module, Tensor]:
    """(a random net in eval mode, its example input)."""
    source, example = write_module(seed)
    torch.manual_seed(seed)
    net: nn.Module = load(source).Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net, example

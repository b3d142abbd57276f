"""Create a plugin package from the templates beside this file."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from qatspec.diag import Span
from qatspec.diag.codes import QS906
from qatspec.hookspecs import API_VERSION

TEMPLATES = importlib.resources.files("qatspec.cli") / "plugin_templates"

#: kind -> the file that holds what the plugin's records name, next to plugin.py.
_FILES = {
    "model": "net",
    "dataset": "data",
    "handler": "op",
    "fuse": "op",
    "march": "compiler",
    "tiled-march": "capabilities",
    "observer": "observer",
}
KINDS = tuple(_FILES)
_SUMMARIES = {
    "model": "A model",
    "dataset": "A data set",
    "handler": "An op with its quant handler",
    "fuse": "A fuse pattern",
    "march": "A march",
    "tiled-march": "A march",
    "observer": "An observer",
}
#: An existing spec may hold options of the march that it was written for, such as `opt`.
_MARCH_USE = (
    "In a spec:\n\n    march: $package\n\n"
    "or on any spec, here without the options of its march:\n\n"
    "    qatspec check SPEC --set march=$package --set 'stages.compile={}'"
)
#: kind -> how what it registers comes into a spec or a model
_USES = {
    "model": "In a spec:\n\n    model:\n      type: $package\n      params: {num_classes: 10}",
    "dataset": "In a spec, for each role of the data:\n\n    data:\n"
    "      train: {type: $package, params: {examples: 64}}",
    "handler": "A spec need not name it: a model that has the module `$package.op.$title` inside a "
    "prepared\nmodule is quantized, lowered and compiled with it.",
    "fuse": "A spec need not name it: every product with a rectifier behind it, inside a "
    "prepared\nmodule, is fused. `qatspec check SPEC` shows where.",
    "march": _MARCH_USE,
    "tiled-march": f"{_MARCH_USE}\n\nAfter `qatspec run`, `<name>.perf.html` in its folder "
    "`compile` shows the modelled time.",
    "observer": "In a qconfig of a spec:\n\n    qconfig:\n      activation: {observer: $package}",
}


def is_package_name(name: str) -> bool:
    """Return whether a distribution and (with underscores for hyphens) a package can have the
    name."""
    package = name.replace("-", "_")
    return re.fullmatch(r"[a-z][a-z0-9_]*", package) is not None and not keyword.iskeyword(package)


def shadowed(name: str) -> bool:
    """Return whether the package would hide an importable module (`json`, `torch`, a plugin)."""
    package = name.replace("-", "_")
    return package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None


def write_package(name: str, kind: str, output: Path) -> Path:
    """Write the package `name` into a folder of that name below `output` and return the folder.

    Raises DiagnosticError QS906 where the folder is there already.
    """
    package = name.replace("-", "_")
    folder = output / name
    if folder.exists():
        raise QS906.error(
            f"`{folder}` is already there",
            help="move it away, or choose another folder with --output",
            span=Span(file=str(folder)),
        )
    words = {
        "file": _FILES[kind],
        "name": name,
        "package": package,
        "title": "".join(part.capitalize() for part in package.split("_")),
        "summary": f"{_SUMMARIES[kind]} for qatspec.",
        "version": importlib.metadata.version("qatspec"),
        "api": str(API_VERSION),
    }
    words["holds"] = (
        "what the chip takes, and its figures; imported at once"
        if kind == "tiled-march"
        else "what that record names; imported when it is first called"
    )
    words["use"] = Template(_USES[kind]).substitute(words)
    for target, template in {
        "README.md": "README.md",
        "pyproject.toml": "pyproject.toml",
        f"src/{package}/__init__.py": "__init__.py",
        f"src/{package}/plugin.py": f"{kind}_plugin.py",
        f"src/{package}/{_FILES[kind]}.py": f"{kind}.py",
        "tests/test_conformance.py": "test_conformance.py",
    }.items():
        text = (TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(words), encoding="utf-8")
    return folder

"""What pyproject.toml says of packages is what the folders hold (rule: packages)."""

import importlib.resources
import re
import runpy
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = CONFIG["tool"]["setuptools"]


def packages_of(folder, name):
    found = []
    for init in sorted(folder.rglob("__init__.py")):
        parts = init.parent.relative_to(folder).parts
        if "templates" not in parts:
            found.append(".".join((name, *parts)))
    return found


def test_every_folder_is_listed():
    folders = {name: ROOT / path for name, path in SETUPTOOLS["package-dir"].items()}
    expected = [p for name, path in folders.items() for p in packages_of(path, name)]
    assert sorted(SETUPTOOLS["packages"]) == sorted(expected)


def test_every_plugin_folder_is_mapped():
    plugins = {p.name for p in (ROOT / "plugins").iterdir() if (p / "__init__.py").exists()}
    assert plugins <= set(SETUPTOOLS["package-dir"])


def test_every_file_that_is_not_code_is_package_data():
    for package, path in SETUPTOOLS["package-dir"].items():
        for file in (ROOT / path).rglob("*"):
            page = file.parent.name == "codes"  # of a diagnostic, as `qatspec explain` shows it
            if not file.is_file() or file.suffix in (".py", *(() if page else (".md",))):
                continue
            if file.parent.name == "__pycache__":  # of Python, and of numba
                continue
            assert any(
                file.match(f"{(owner.replace(package, str(path), 1)).replace('.', '/')}/{pattern}")
                for owner, patterns in SETUPTOOLS["package-data"].items()
                if owner == package or owner.startswith(package + ".")
                for pattern in patterns
            ), f"{file.relative_to(ROOT)} is in no wheel"


def test_schemas_are_found_where_the_package_is():
    names = {f.name for f in importlib.resources.files("qatspec_schemas").iterdir()}
    assert {"qatspec-1.schema.json", "summary-1.schema.json"} <= names


def test_entry_points_are_importable():
    from importlib import import_module

    for target in CONFIG["project"]["entry-points"]["qatspec"].values():
        import_module(target)


def description(source=None):
    """README as a package index gets it from setup.py."""
    program = runpy.run_path(str(ROOT / "setup.py"))
    readme = (ROOT / "README.md").read_text("utf-8")
    return program, program["long_description"](readme, source)


LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def test_the_page_of_a_package_index_has_no_link_that_only_the_repository_has():
    _, page = description()
    assert "![" not in page and page.count("*Picture: ") == 6
    assert all(target.startswith(("https://", "#")) for target in LINK.findall(page))
    assert CONFIG["project"]["dynamic"] == ["readme"]


def test_links_are_absolute_where_the_repository_is_named():
    """Its address is the base of all, and the rest is a file that exists."""
    program, page = description("https://example.org/o/qatspec")
    targets = [target.split("/HEAD/") for target in LINK.findall(page) if "/HEAD/" in target]
    assert {base.removeprefix("https://example.org/o/qatspec/") for base, _ in targets} == {
        "raw", "blob"
    }  # fmt: skip
    assert len(targets) > 40 and all((ROOT / path).is_file() for _, path in targets)
    source = program["source"]
    assert source('[project.urls]\nSource = "https://example.org/o/qatspec/"\n') == (
        "https://example.org/o/qatspec"
    )
    assert source((ROOT / "pyproject.toml").read_text("utf-8")) == CONFIG["project"].get(
        "urls", {}
    ).get("Source")

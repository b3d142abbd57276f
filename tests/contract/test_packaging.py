"""What pyproject.toml says of packages is what the folders hold (rule: packages)."""

import importlib.resources
import re
import runpy
import shutil
import sys
import types
from pathlib import Path

import pytest

from qatspec.registry.plugins import hash_sources

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


@pytest.fixture(scope="module")
def shipped():
    """What setuptools puts into a wheel: path in it -> file of the checkout."""
    from setuptools import Distribution

    folders = {name: str(ROOT / path) for name, path in SETUPTOOLS["package-dir"].items()}
    keys = {"packages": SETUPTOOLS["packages"], "package_data": SETUPTOOLS["package-data"]}
    keys["script_name"] = str(ROOT / "setup.py")
    command = Distribution({**keys, "package_dir": folders}).get_command_obj("build_py")
    command.build_lib, command.editable_mode = "wheel", False
    command.ensure_finalized()
    files = command.get_output_mapping()
    return {target.removeprefix("wheel/"): Path(source) for target, source in files.items()}


@pytest.mark.parametrize("package", SETUPTOOLS["package-dir"])
def test_a_wheel_has_the_digest_of_its_checkout(shipped, package, tmp_path):
    """Results of one are no "other sources" to the other."""

    def digest(folder):
        module = types.ModuleType(package)
        module.__path__ = [str(folder)]
        return hash_sources(module)

    carried = [target for target in shipped if target.split("/")[0] == package]
    assert len(carried) > 2
    for target in carried:
        copy = tmp_path / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shipped[target], copy)
    checkout = ROOT / SETUPTOOLS["package-dir"][package]
    assert digest(tmp_path / package) == digest(checkout)
    (tmp_path / package / "more.csv").write_text("1\n")
    assert digest(tmp_path / package) != digest(checkout)


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

"""Packages as third parties have them: written by `plugins new` or by hand, installed by pip into
an environment of their own (offline, rule: packages), and put to the kit there."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from qatspec.cli.main import run
from qatspec.cli.scaffold import KINDS
from tests.sample import without

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example_third_party"


def _setuptools() -> int:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        _setuptools() < 77, reason="building a package offline needs setuptools>=77"
    ),
]


class Environment:
    """A venv that also sees the running environment's packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        site = self.call("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        ours = sysconfig.get_path("purelib")  # addsitedir reads its .pth files: editable installs
        Path(site, "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")

    def call(self, *arguments: object, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [self.python, *map(str, arguments)], cwd=cwd or self.folder, capture_output=True,
            text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *packages: Path) -> None:
        offline = ("--no-build-isolation", "--no-deps", "--no-index")
        self.call("-m", "pip", "install", "--quiet", *offline, *packages)

    def qatspec(self, *arguments: object) -> str:
        return self.call("-c", "from qatspec.cli.main import main; main()", *arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def written(environment):
    """A package of every kind, written and installed."""
    folders = []
    for kind in KINDS:
        assert run(["plugins", "new", f"my-{kind}", "--kind", kind, "--output",
                    str(environment.folder)]) == 0  # fmt: skip
        folders.append(environment.folder / f"my-{kind}")
    environment.install(*folders)
    return folders


def test_written_packages_pass_their_own_tests(environment, written):
    tests = [folder / "tests" for folder in written]
    said = environment.call(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests
    )
    assert "passed" in said
    assert "failed" not in said


# their own tests, above, are the same checks
@pytest.mark.parametrize("kind", without(KINDS, "tiled-march", "fuse", "handler", "model"))
def test_written_packages_pass_the_command(environment, written, kind):
    said = environment.qatspec("plugins", "check", f"my-{kind}")
    kinds = {"handler": "quant_handler", "fuse": "fuse_pattern", "tiled-march": "march"}
    own = kinds.get(kind, kind)
    assert f"{own} my_{kind.replace('-', '_')}" in said
    # data sets need neither recognize a folder nor say how pictures are fitted
    assert re.search(r" 0 failed, [012] skipped", said), said


@pytest.mark.parametrize("kind", ["march", "tiled-march"])
def test_the_command_of_a_march_takes_a_spec_of_another_one(environment, written, kind):
    """The quickstart has `opt`, which a march that is not tiled does not know."""
    readme = (written[KINDS.index(kind)] / "README.md").read_text("utf-8")
    (options,) = re.findall(r"^    qatspec check SPEC (.+)$", readme, re.MULTILINE)
    assert f"--set march=my_{kind.replace('-', '_')} " in options
    spec = EXAMPLE.parents[1] / "specs/quickstart.yaml"
    assert ": ok (" in environment.qatspec("validate", spec, *shlex.split(options))


def test_the_example_runs_through_all_stages(environment):
    copy = environment.folder / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    environment.install(copy)
    said = environment.qatspec("plugins", "check", "qatspec-hard-mish")
    assert " 0 failed, 2 skipped" in said, said  # of its data set, as above
    said = environment.qatspec("run", copy / "specs/stripes.yaml", "--workdir", copy / "run")
    assert "convert/stripes-converted.onnx" in said
    program = (copy / "run/convert/stripes.program").read_bytes()
    assert b'"lut"' in program, "hard_mish is a table on the chip"
    decisions = (copy / "run/calibration/calibration-decisions.json").read_text()
    assert "four_sigma" in decisions
    assert "hard_mish" in decisions

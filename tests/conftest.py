"""A toy project that runs through all five stages in a few seconds: `tests/toy`.

torch is imported when a project runs, so that tests of the front half stay light.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.exact_sessions import make_exact

TOY = Path(__file__).parent / "toy"

# Tests run side by side (pytest -n): a thread pool each would only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Digests of files are remembered for the tests alone.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="qatspec-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption(
        "--full", action="store_true", help="all cases of the tests that take a sample otherwise"
    )


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `full`, unless it is asked for."""
    if config.getoption("full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_collection_finish(session):
    """Collect garbage less often, and not what was imported: a collection goes through all of
    torch's objects each time, which was a tenth of the tests' CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def sums_of_sessions_do_not_saturate():
    """On an x86 CPU without VNNI, onnxruntime's sessions are wrong by default (QS732): those of
    tests ask for exact kernels there, as qatspec's own do. Only where a test has imported it."""
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None:
        make_exact(loaded)
    yield


@pytest.fixture(autouse=True)
def no_values_of_other_tests():
    """A process hides the values of the environment that it has read: each test its own."""
    from qatspec.source import environment

    yield
    environment._read.clear()


class Project:
    """The toy spec and its plugin in a folder of their own, and a work directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = folder / "toy.yaml"
        self.workdir = folder / "work"
        self.events: list = []
        shutil.copytree(TOY, folder, dirs_exist_ok=True)

    def load(self, *overrides: str):
        from qatspec.registry import registry
        from qatspec.spec import load

        registry.cache_clear()  # projects bring the same plugin from different folders
        return load(self.spec, overrides, allow_code=True)

    def plan(self, *overrides: str):
        from qatspec.plan import resolve

        return resolve(self.load(*overrides))

    def edit(self, old: str, new: str) -> None:
        text = self.spec.read_text()
        assert old in text
        self.spec.write_text(text.replace(old, new))

    def run(self, *overrides: str, plan=None, on_event=None, **options):
        """Run in this process; gives the summary and keeps the events."""
        from qatspec.engine import run

        self.events = []

        def listen(event) -> None:
            self.events.append(event)
            if on_event:
                on_event(event)

        options = {"device": "cpu", **options}
        return run(plan or self.plan(*overrides), self.workdir, on_event=listen, **options)

    def command(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """`qatspec ...` in a process of its own, in the project's folder."""
        return subprocess.run(
            self.command_line(*arguments), cwd=self.folder, text=True, capture_output=True,
            timeout=300, check=False, env=self.environment(), **options,
        )  # fmt: skip

    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        """`qatspec ...` in this process (torch is imported once), in the project's folder."""
        from qatspec.cli.main import run
        from qatspec.registry import registry

        registry.cache_clear()
        out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run([str(a) for a in arguments])
        finally:
            os.chdir(here)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    @staticmethod
    def command_line(*arguments: str) -> list[str]:
        code = "from qatspec.cli.main import main; main()"
        return [sys.executable, "-c", code, *map(str, arguments)]

    @staticmethod
    def environment() -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project that has been run once; treat as read-only."""
    project = Project(tmp_path_factory.mktemp("finished") / "project")
    project.summary = project.run()
    return project


@pytest.fixture
def copy(finished, tmp_path):
    """A finished project of one's own, at the same spec."""
    shutil.copytree(finished.folder, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def settled():
    """`tests.nets.settle`, seeded: prepare a net, observe its inputs, freeze."""
    import torch

    from tests.nets import settle

    torch.manual_seed(0)
    return settle


@pytest.fixture
def everything(settled):
    """(a net with every op there is, prepared and settled; its input)."""
    import torch

    from tests.nets import Everything

    x = torch.randn(2, 3, 32, 32)
    return settled(Everything(), x), x

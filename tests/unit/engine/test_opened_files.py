"""What file plugins import and open below their folder counts, and nothing else does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from qatspec.plan import status
from tests.unit.engine.test_execute import Killed, statuses, tree

#: A module beside the plugin, which the model needs.
HELPER = "def gain():\n    return 1.0\n"
READS = {
    "a helper imported at the top": ("from sub import helper\n", ""),
    "a helper imported late": ("", "        from sub import helper\n"),
    "a file opened at the top": ("GAIN = open(HERE / 'gain.json').read()\n", ""),
    "a file opened late": ("", "        json.loads((HERE / 'gain.json').read_text())\n"),
    "an array": ("", "        np.load(HERE / 'gain.npy')\n"),
    "weights": ("", "        torch.load(HERE / 'gain.pth', weights_only=True)\n"),
    "a file in a thread": (
        "", "        with ThreadPoolExecutor() as pool:\n"
        "            list(pool.map(np.load, [HERE / 'gain.npy']))\n",
    ),
    "a subprocess": ("", "        subprocess.run(['cat', str(HERE / 'gain.json')], stdout=-3)\n"),
}  # fmt: skip
READ_FILES = {
    "a helper imported at the top": "sub/helper.py",
    "a helper imported late": "sub/helper.py",
    "an array": "gain.npy",
    "a file in a thread": "gain.npy",
    "weights": "gain.pth",
}


@pytest.fixture(autouse=True)
def clean():
    """The modules and the search path of the interpreter, as they were."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("sub", "late_helper", "override"):
            del sys.modules[name]


def write_plugin(project, top: str = "", build: str = "", sample: str = "") -> None:
    """The toy plugin with more imports, more to do in `Net.__init__`, and in `sample`."""
    import numpy as np
    import torch

    path = project.folder / "toy_plugin.py"
    text = path.read_text()
    head = "import json, subprocess, sys\nfrom concurrent.futures import ThreadPoolExecutor\n"
    head += "from pathlib import Path\nHERE = Path(__file__).parent\n"
    head += "sys.path.insert(0, str(HERE))\n"
    text = text.replace("import numpy as np\n", f"{head}import numpy as np\n{top}", 1)
    text = text.replace("        super().__init__()\n", f"        super().__init__()\n{build}", 1)
    text = text.replace("        label = index % 4\n", f"        label = index % 4\n{sample}", 1)
    path.write_text(text)
    folder = project.folder
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub/helper.py").write_text(HELPER)
    (folder / "gain.json").write_text("1.5")
    np.save(folder / "gain.npy", np.zeros(2))
    torch.save({"gain": torch.zeros(2)}, folder / "gain.pth")
    (folder / "plot.py").write_text("print('unrelated')\n")
    (folder / "notes").mkdir()
    (folder / "notes/1.txt").write_text("unrelated")


def states(project, *overrides: str) -> dict[str, str]:
    return {s.step.name: s.state for s in status(project.plan(*overrides), project.workdir)}


def reasons(project) -> list[str]:
    return [c.text for c in status(project.plan(), project.workdir)[0].because]


def touch_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", list(READS))
def test_what_is_read_counts_and_is_named(project, how):
    write_plugin(project, *READS[how])
    project.run(step="float")
    assert states(project)["float"] == "cached"
    if how != "a subprocess":  # which may have read anything
        (project.folder / "plot.py").write_text("print('still unrelated')\n")
        (project.folder / "notes/2.txt").write_text("new")
        assert states(project)["float"] == "cached"
    name = READ_FILES.get(how, "gain.json")
    path, before = project.folder / name, (project.folder / name).read_bytes()
    touch_a_byte(path)
    assert states(project)["float"] == "changed"
    assert reasons(project) == [f"plugin toy_plugin.py: {name} changed"]
    if "at the top" not in how:  # without it the plugin cannot be loaded
        path.unlink()
        assert reasons(project) == [f"plugin toy_plugin.py: {name} was removed"]
    path.write_bytes(before)
    assert states(project)["float"] == "cached", "it is as it was"


def test_the_plugin_itself_is_named(project):
    write_plugin(project)
    project.run(step="float")
    path = project.folder / "toy_plugin.py"
    path.write_text(path.read_text() + "\n")
    assert reasons(project) == ["plugin toy_plugin.py changed"]


def test_the_whole_folder_counts_where_a_subprocess_may_have_read_it(project):
    write_plugin(project, *READS["a subprocess"])
    project.run(step="float")
    (project.folder / "notes/1.txt").write_text("other")
    assert reasons(project) == ["plugin toy_plugin.py: notes/1.txt changed"]
    (project.folder / "notes/1.txt").write_text("unrelated")
    (project.folder / "notes/2.txt").write_text("new")
    assert reasons(project) == ["plugin toy_plugin.py: notes/2.txt is new"]


@pytest.mark.parametrize(
    ("build", "new"),
    [
        ("        try:\n            import override\n        except ImportError:\n"
         "            pass\n", "override.py"),
        ("        try:\n            from sub import override\n        except ImportError:\n"
         "            pass\n", "sub/override.py"),
        ("        try:\n            open(HERE / 'more.json')\n        except OSError:\n"
         "            pass\n", "more.json"),
        ("        if (HERE / 'more.json').exists():\n            width = 1\n", "more.json"),
        ("        list((HERE / 'notes').iterdir())\n", "notes/"),
        ("        list((HERE / 'notes').glob('*.txt'))\n", "notes/"),
        ("        from sub import helper\n", "sub/__init__.py"),
    ],
)  # fmt: skip
def test_a_new_file_counts_where_it_would_have_been_read(project, build, new):
    write_plugin(project, build=build)
    project.run(step="float")
    path = project.folder / ("notes/2.txt" if new == "notes/" else new)
    path.write_text("")
    what = "changed" if new == "notes/" else "is new"
    assert reasons(project) == [f"plugin toy_plugin.py: {new} {what}"]
    path.unlink()
    assert states(project)["float"] == "cached"


@pytest.mark.parametrize("process", ["worker", "rank"])
def test_other_processes_record_too(project, process):
    """In a process of its own, as a command would."""
    read = "        if torch.utils.data.get_worker_info() or torch.distributed.is_initialized():\n"
    read += "            open(HERE / 'gain.json').read()\n"
    write_plugin(project, sample=read)
    path = project.folder / "toy_plugin.py"
    path.write_text(path.read_text().replace("import torch\n", "import torch.distributed\n", 1))
    options = ["--nproc", "2"] if process == "rank" else ["--set", "data.train.workers=2"]
    command = ["toy.yaml", "--allow-code", "--device", "cpu", "--workdir", "work", *options]
    done = project.command("run", "--step", "float", *command)
    assert done.returncode == 0, done.stderr
    record = json.loads((project.workdir / "float/step.json").read_text())
    assert "gain.json" in record["opened"]["toy_plugin.py"]
    (project.folder / "gain.json").write_text("2.5")
    told = project.command("plan", *command)
    assert "plugin toy_plugin.py: gain.json changed" in told.stdout
    assert not (project.workdir / "float/opened.jsonl").exists()


def test_an_edit_during_a_training_counts_for_the_next_one(project):
    """The process had read the file before: its tensors are those of the old contents."""
    write_plugin(project, *READS["a helper imported at the top"])

    def edit(event) -> None:
        if event.kind == "progress" and event.data.get("done") == 2:
            (project.folder / "sub/helper.py").write_text(HELPER.replace("1.0", "2.0"))

    project.run(step="float", on_event=edit)
    assert reasons(project) == ["plugin toy_plugin.py: sub/helper.py changed"]


def test_a_broken_off_training_does_not_go_on_with_another_helper(project):
    write_plugin(project, *READS["a helper imported late"])

    def die(event) -> None:
        if (event.data.get("unit"), event.data.get("done")) == ("step", 8):
            raise Killed

    with pytest.raises(Killed):
        project.run(step="float", on_event=die)
    (project.folder / "plot.py").write_text("")
    with pytest.raises(Killed):
        project.run(step="float", on_event=die)
    started = [e for e in project.events if e.kind == "step_started"]
    assert started[0].data["resumed_from"] == 6
    (project.folder / "sub/helper.py").write_text(HELPER.replace("1.0", "2.0"))
    assert reasons(project) == ["plugin toy_plugin.py: sub/helper.py changed"]
    project.run(step="float")
    (started,) = [e for e in project.events if e.kind == "step_started"]
    assert started.data["resumed_from"] is None
    assert states(project)["float"] == "cached"


def test_a_helper_is_loaded_again_when_it_was_edited(project):
    """Within one process, as a notebook would."""
    build = "        from sub.helper import gain\n        self.gain = gain()\n"
    write_plugin(project, build=build)
    plugin = project.folder / "toy_plugin.py"
    plugin.write_text(plugin.read_text().replace(
        "return self.head(self.stem(images))", "return self.head(self.stem(images)) * self.gain"
    ))  # fmt: skip
    project.run(step="float")
    before = tree(project.workdir)
    (project.folder / "sub/helper.py").write_text(HELPER.replace("1.0", "2.0"))
    assert dict(statuses(project.run(step="float")))["float"] == "run"
    assert states(project)["float"] == "cached"
    new = {k: v for k, v in tree(project.workdir).items() if k.startswith("float/")}
    assert new != {k: v for k, v in before.items() if k.startswith("float/")}
    (project.folder / "sub/helper.py").write_text(HELPER)
    assert dict(statuses(project.run(step="float")))["float"] == "cached", "it returns"


def test_files_that_a_data_set_digests_count_for_their_role(project):
    """A plugin's own data set that uses content_digest: another val file judges again."""
    write_plugin(project, sample="        (HERE / 'data' / f'{self.count}.txt').read_text()\n")
    (project.folder / "data").mkdir()
    for count in (32, 12):
        (project.folder / f"data/{count}.txt").write_text("1")
    path = project.folder / "toy_plugin.py"
    text = path.read_text().replace("DatasetDef,", "DatasetDef, content_digest,", 1)
    old = "fingerprint=lambda params, base_dir: f\"corners {params['count']}\""
    assert old in text
    new = "fingerprint=lambda params, base_dir: content_digest(\n"
    new += "            {'x': HERE / 'data' / f'{params[\"count\"]}.txt'}, params['count'])"
    path.write_text(text.replace(old, new))
    project.run("data.val.params.count=12", step="float")
    assert states(project, "data.val.params.count=12")["float"] == "cached"
    (project.folder / "data/12.txt").write_text("2")
    assert states(project, "data.val.params.count=12")["float"] == "judge"
    (project.folder / "data/32.txt").write_text("2")
    assert states(project, "data.val.params.count=12")["float"] == "changed"


def test_two_plugins_of_one_name_both_count(project):
    write_plugin(project)
    shutil.copytree(project.folder / "sub", project.folder / "two/sub")
    other = project.folder / "two/toy_plugin.py"
    other.write_text(
        "from qatspec.api import hookimpl, ObserverDef\n\n\n"
        "@hookimpl\ndef qatspec_observers():\n"
        "    return [ObserverDef(name='mine', summary='s', build=print)]\n"
    )
    project.edit("plugins: [./toy_plugin.py]", "plugins: [./toy_plugin.py, ./two/toy_plugin.py]")
    project.run(step="calibration", with_deps=True)
    other.write_text(other.read_text().replace("summary='s'", "summary='t'"))
    assert states(project) == {
        "float": "cached", "calibration": "changed", "qat": "run", "convert": "run",
        "compile": "run",
    }  # fmt: skip


def test_work_directories_and_environments_below_the_folder_do_not_count(project):
    write_plugin(project, *READS["a subprocess"])
    project.run(step="float")
    for mark in ("runs/other/.lock", "venv/pyvenv.cfg", "__pycache__/plot.cpython-311.pyc"):
        path = project.folder / mark
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        (path.parent / "summary.json").write_text("{}")
    assert states(project)["float"] == "cached"


def test_commands_that_read_results_hold_the_files_too(project):
    write_plugin(project, *READS["a file opened late"])
    options = ["toy.yaml", "--allow-code", "--device", "cpu", "--workdir", "work"]
    assert project.call("run", "--step", "float", *options).returncode == 0
    assert project.call("eval", "--stage", "float", *options).returncode == 0
    (project.folder / "gain.json").write_text("9.5")
    told = project.call("eval", "--stage", "float", *options)
    assert told.returncode == 1
    assert "plugin toy_plugin.py: gain.json changed" in told.stderr


ASKS = {
    "exists": "        name = 'extra' + '.json'\n        (HERE / 'notes' / name).exists()\n",
    "os.path.isfile": "        import os\n"
    "        os.path.isfile(str(HERE / 'notes/extra') + '.json')\n",
    "os.access": "        import os\n"
    "        os.access(str(HERE / 'notes/extra') + '.json', os.R_OK)\n",
    "imported": "        from os.path import exists as there\n"
    "        there(str(HERE / 'notes/extra') + '.json')\n",
}


@pytest.mark.parametrize("how", ASKS)
def test_a_question_for_a_name_that_is_put_together_counts(project, how):
    """No event shows it: which files there are counts, their contents do not."""
    write_plugin(project, build=ASKS[how])
    project.run(step="float")
    (project.folder / "notes/1.txt").write_text("other")
    assert states(project)["float"] == "cached"
    (project.folder / "notes/extra.json").write_text("{}")
    assert states(project)["float"] == "changed"
    assert reasons(project) == ["plugin toy_plugin.py: notes/extra.json is new"]
    (project.folder / "notes/extra.json").unlink()
    assert states(project)["float"] == "cached"
    (project.folder / "notes/1.txt").unlink()
    assert reasons(project) == ["plugin toy_plugin.py: notes/1.txt was removed"]


def test_what_a_plugin_writes_for_itself_is_no_change(project):
    build = (
        "        cache = HERE / ('ca' + 'che')\n        cache.exists() or cache.write_text('1')\n"
    )
    write_plugin(project, build=build)
    project.run(step="float")
    assert (project.folder / "cache").exists()
    assert states(project)["float"] == "cached"


def test_the_size_of_a_file_counts(project):
    build = "        name = 'notes/' + '1.txt'\n        (HERE / name).stat().st_size\n"
    write_plugin(project, build=build)
    project.run(step="float")
    assert states(project)["float"] == "cached"
    (project.folder / "notes/1.txt").write_text("longer than it was")
    assert states(project)["float"] == "changed"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Installed packages: `between` imports `native`, which has compiled code."""
    import importlib.util
    import shutil as files

    site = tmp_path / "site"
    for name in ("between", "native"):
        (site / name).mkdir(parents=True)
    compiled = importlib.util.find_spec("_queue" if sys.version_info < (3, 15) else "_json").origin
    if not compiled or not compiled.endswith(".so"):
        pytest.skip("this Python has no compiled modules as files")
    files.copy(compiled, site / "native" / Path(compiled).name)
    (site / "native/__init__.py").write_text("from native import _queue\n")
    (site / "between/__init__.py").write_text("import native\n")
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in ("between", "native", "native._queue"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("package", ["native", "between"])
def test_compiled_code_may_have_read_any_file(project, packages, package):
    """Whatever it is called, and also where a package of Python code imports it."""
    write_plugin(project, build=f"        __import__('{package}')\n")
    project.run(step="float")
    (project.folder / "notes/1.txt").write_text("other")
    assert states(project)["float"] == "changed"
    assert reasons(project) == ["plugin toy_plugin.py: notes/1.txt changed"]


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_of_the_validation_do_not_count_for_training(project, workers):
    """A data set without content_digest: another val file judges again, and then stands."""
    sample = "        (HERE / 'data' / ('%d.bin' % self.count)).read_bytes()\n"
    write_plugin(project, sample=sample)
    (project.folder / "data").mkdir()
    for count in (32, 12):
        (project.folder / f"data/{count}.bin").write_text("1")
    overrides = ("data.val.params.count=12", f"data.val.workers={workers}")
    project.run(*overrides, step="float")
    assert states(project, *overrides)["float"] == "cached"
    before = tree(project.workdir / "float")
    (project.folder / "data/12.bin").write_text("2")
    (found, *_) = status(project.plan(*overrides), project.workdir)
    assert found.state == "judge"
    assert [c.text for c in found.because] == ["plugin toy_plugin.py: data/12.bin changed"]
    project.run(*overrides, step="float")
    assert states(project, *overrides)["float"] == "cached"
    same = {k: v for k, v in tree(project.workdir / "float").items() if "epoch" in k}
    assert same == {k: v for k, v in before.items() if "epoch" in k}
    (project.folder / "data/32.bin").write_text("2")
    assert states(project, *overrides)["float"] == "changed"

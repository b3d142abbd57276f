from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.plan.checkpoints import is_intact
from qatspec.train import checkpoint as checkpoints
from qatspec.train.checkpoint import Checkpoint, load, load_weights, save


def make(value: float = 1.0, **fields) -> Checkpoint:
    state = {"weight": torch.full((8, 8), value), "count": torch.tensor(3)}
    return Checkpoint(stage="float", epoch=1, step=5, state_dict=state, march="bayes", **fields)


def code_of(caught) -> str:
    return caught.value.diagnostics[0].code


def test_round_trip(tmp_path):
    path = tmp_path / "float-checkpoint-last.pth.tar"
    state = checkpoints.rng_state(5)
    drawn = torch.rand(3)
    save(make(rng=state, metrics={"AP": 12.5}, digests={"step": "d"}), path)
    found = load(path)
    assert torch.equal(found.state_dict["weight"], torch.full((8, 8), 1.0))
    assert (found.metrics, found.march, found.step) == ({"AP": 12.5}, "bayes", 5)
    checkpoints.set_rng_state(found.rng)
    assert torch.equal(torch.rand(3), drawn)
    assert is_intact(path)
    line = (tmp_path / f"{path.name}.sha256").read_text()
    assert line == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def test_bytes_depend_on_contents_alone():
    text = "".join(["by", "es"])  # equal to, but not the same object as, other strings
    shared = torch.ones(4)
    one = make(digests={"a": text, "b": text}, ema={"x": shared, "y": shared})
    two = make(digests={"a": "byes", "b": "".join("byes")}, ema={"x": torch.ones(4), "y": shared})
    assert one.to_bytes() == two.to_bytes()
    assert one.to_bytes() != make(2.0, digests={"a": text, "b": text}).to_bytes()


def test_weights_are_the_average_where_there_is_one():
    average = {"state_dict": {"weight": torch.zeros(8, 8), "count": torch.tensor(2)}, "steps": 4}
    assert make(ema=average).weights == average["state_dict"]
    plain = make()
    assert plain.weights == plain.state_dict


def test_missing_file(tmp_path):
    with pytest.raises(DiagnosticError) as caught:
        load(tmp_path / "none.pth.tar")
    assert code_of(caught) == "QS905"


@pytest.mark.parametrize("with_sidecar", [True, False])
@pytest.mark.parametrize("position", [0, 0.3, 0.6, 0.999])
def test_a_damaged_file_is_named(tmp_path, position, with_sidecar):
    path = tmp_path / "c.pth.tar"
    save(make(), path)
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 0xFF
    path.write_bytes(data)
    assert not is_intact(path)
    if not with_sidecar:
        (tmp_path / "c.pth.tar.sha256").unlink()
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DiagnosticError) as caught:
        load(path)
    assert code_of(caught) == "QS901"
    assert str(path) in caught.value.diagnostics[0].message


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x80\x02}q\x00."])
def test_foreign_bytes(tmp_path, content):
    path = tmp_path / "c.pth.tar"
    path.write_bytes(content)
    with pytest.raises(DiagnosticError) as caught:
        load(path)
    assert code_of(caught) == "QS901"


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    path = tmp_path / "c.pth.tar"
    torch.save({"format": 1, "x": Evil()}, path)
    with pytest.raises(DiagnosticError) as caught:
        load(path)
    assert code_of(caught) == "QS901"
    assert not marker.exists()


def test_another_torch_file_is_foreign(tmp_path):
    path = tmp_path / "c.pth.tar"
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(DiagnosticError, match="not a qatspec checkpoint"):
        load(path)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "c.pth.tar"
    save(make(), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(DiagnosticError) as caught:
            save(make(2.0), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert code_of(caught) == "QS903"
    assert path.read_bytes() == before
    assert is_intact(path)
    assert torch.equal(load(path).state_dict["weight"], torch.full((8, 8), 1.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pth.tar", "c.pth.tar.sha256"]


@pytest.mark.parametrize("dies_before", [1, 2, 3])
def test_a_kill_at_any_rename_leaves_a_loadable_file(tmp_path, dies_before):
    """save() renames three times (sidecar, file, sidecar); die before each."""
    path = tmp_path / "c.pth.tar"
    save(make(), path)
    script = textwrap.dedent(
        f"""
        import os, pathlib, torch
        from qatspec.train.checkpoint import Checkpoint, save
        count = 0
        rename = pathlib.Path.replace
        def replace(self, target):
            global count
            count += 1
            if count == {dies_before}:
                os._exit(9)
            return rename(self, target)
        pathlib.Path.replace = replace
        state = {{"weight": torch.full((8, 8), 2.0), "count": torch.tensor(3)}}
        new = Checkpoint(stage="float", epoch=1, step=5, state_dict=state)
        save(new, pathlib.Path({str(path)!r}))
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    value = load(path).state_dict["weight"][0, 0]
    assert float(value) == (1.0 if dies_before < 3 else 2.0)
    save(make(3.0), path)
    assert float(load(path).state_dict["weight"][0, 0]) == 3.0


def test_weights_must_fit(tmp_path):
    net = torch.nn.Linear(2, 2)
    path = tmp_path / "c.pth.tar"
    with pytest.raises(DiagnosticError, match=r"lacks 1 key \(bias\).*unknown 1 key \(other\)"):
        load_weights(net, {"weight": torch.ones(2, 2), "other": torch.ones(1)}, source=path)
    with pytest.raises(DiagnosticError, match=r"weight \(3, 2\) for \(2, 2\)"):
        load_weights(net, {"weight": torch.ones(3, 2), "bias": torch.ones(2)}, source=path)
    load_weights(
        net,
        {"weight": torch.ones(2, 2), "other": torch.ones(1)},
        source=path,
        allow_miss=True,
        ignore_extra=True,
    )
    assert torch.equal(net.weight, torch.ones(2, 2))

"""The model card of a run."""

from __future__ import annotations

from dataclasses import replace

import yaml

from qatspec.report.card import card
from qatspec.report.gathered import gather
from qatspec.report.tables import verdict


def test_the_card_holds_what_the_run_records(finished):
    run = gather(finished.workdir)
    text = card(run)
    _, matter, body = text.split("---\n", 2)
    assert yaml.safe_load(matter) == {
        "library_name": "qatspec", "tags": ["quantization", "qat", "march-bayes"],
    }  # fmt: skip
    assert body.startswith("\n# toy\n")
    accuracy = run.summary["metrics"]["integer"]["accuracy"]
    assert f"| integer | {accuracy:.2f} (" in body
    for name in ("qat/qat-checkpoint-best.pth.tar", "convert/toy-qat.onnx", "compile/toy.bin"):
        (artifact,) = (a for a in run.summary["artifacts"] if a["path"] == name)
        assert f"| `{name}` |" in body and artifact["sha256"] in body
    assert "last.pth.tar" not in body and "float-checkpoint" not in body
    quantized = sum(bool(d["fake_quant"] or d["weight"]) for d in run.decisions)
    table = body.partition("## Quantization")[2].partition("## Data")[0]
    counts = [int(row.split("|")[3]) for row in table.splitlines() if row.startswith("| q")]
    assert sum(counts) == quantized > 0
    assert "| train | toy_corners | `" in body and "licences" in body
    assert f"| val | toy_corners | `{run.keys['data:val'][:12]}` |" in body
    keys = {**run.keys, "data:train": "0123", "data:val": "4567"}
    assert "| val | toy_corners | `4567` |" in card(replace(run, keys=keys))
    unknown = {key: value for key, value in run.keys.items() if key != "data:val"}
    assert "| val | toy_corners | not recorded |" in card(replace(run, keys=unknown))
    assert "--smoke" not in body
    smoke = {**run.summary, "spec": {**run.summary["spec"], "smoke": True}}
    assert "--smoke`" in card(replace(run, summary=smoke))


def test_the_command_writes_it_into_the_work_directory(copy):
    done = copy.call("report", "work", "--card")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("MODEL_CARD.md")
    assert (copy.workdir / "MODEL_CARD.md").read_text() == card(gather(copy.workdir))
    assert copy.call("report", "work", "work", "--card").returncode == 2
    piped = copy.call("report", "work", "--card", "--output", "-")
    assert piped.stdout == card(gather(copy.workdir))


def test_a_file_that_differs_is_named_with_its_share_of_the_output(finished):
    """An int32 output has many steps: their number alone says nothing."""
    run = gather(finished.workdir)
    (program,) = (a for a in run.summary["artifacts"] if a["kind"] == "program")
    apart = {"bit_exact": False, "max_lsb": 8281, "compared": "4 images, apart by at most 0.4 %"}
    summary = {**run.summary, "artifacts": [{**program, **apart}]}
    sentence = verdict(replace(run, summary=summary))
    assert "convert/toy.program not bit-exact (4 images, apart by at most 0.4 %)" in sentence
    assert "8281" not in sentence

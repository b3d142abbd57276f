"""One `check` reports every place: what cannot be traced, has no integers, or breaks a limit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FORWARD = """        return self.head(self.stem(images))
"""
REFUSED = """        if images.max() > 9:  # QS501
            images = images / 9
        assert not torch.isnan(images).any()  # QS501
        x = self.stem(images)
        x = torch.logcumsumexp(x, 1)  # QS701
        x = self.wide(x)  # QS801
        x = x * float(x.mean())  # QS501
        x = torch.cumprod(x, 1)  # QS701
        x = self.wide(x)  # QS801
        return self.head(x)
"""
FIXED = """        images = torch.where(images.amax((1, 2, 3), True) > 9, images / 9, images)
        x = self.stem(images)
        x = self.narrow(x)
        x = x * x.mean((1, 2, 3), True)
        x = self.narrow(x)
        return self.head(x)
"""


def _write(project, forward: str) -> Path:
    path = project.folder / "toy_plugin.py"
    text = path.read_text()
    part = "        self.head = nn.Conv2d(width, 4, 4)\n"
    wide = "        self.{} = nn.Conv2d(width, width, {}, padding={})\n"
    parts = wide.format("wide", 41, 20) if "wide" in forward else wide.format("narrow", 3, 1)
    assert FORWARD in text and part in text
    path.write_text(text.replace(FORWARD, forward).replace(part, part + parts))
    return path


def _marked(path: Path) -> set[tuple[str, int]]:
    lines = path.read_text().splitlines()
    return {(line.rpartition("# ")[2], i) for i, line in enumerate(lines, 1) if "# QS" in line}


def test_every_line_in_one_run(project) -> None:
    path = _write(project, REFUSED)
    done = project.call("--format", "json", "check", "toy.yaml", "--allow-code")
    assert done.returncode == 1
    found = json.loads(done.stdout)["diagnostics"]
    places = [(d["code"], s) for d in found for s in (d["span"], *(n["span"] for n in d["notes"]))]
    lines = {(code, s["line"]) for code, s in places if s and s["file"].endswith(path.name)}
    assert lines == _marked(path)
    assert all(d["severity"] == "error" for d in found)
    causes = [(d["code"], re.sub("`.*?`", "", d["message"])) for d in found]
    assert len(causes) == len(set(causes)), "one diagnostic a cause"


@pytest.mark.parametrize("stage", ["convert", "compile"])
def test_what_no_stage_of_the_spec_does_is_a_warning(project, stage: str) -> None:
    _write(project, REFUSED)
    project.edit("  compile: {opt: O3}\n", "")
    if stage == "convert":
        project.edit("  convert: {}\n", "")
    done = project.call("--format", "json", "check", "toy.yaml", "--allow-code")
    severities = {d["code"]: d["severity"] for d in json.loads(done.stdout)["diagnostics"]}
    assert severities["QS801"] == "warning" and severities["QS501"] == "error"
    assert severities["QS701"] == ("warning" if stage == "convert" else "error")


def test_the_fixes_together_pass(project) -> None:
    _write(project, FIXED)
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 0, done.stderr


def test_run_reports_every_line_before_training(project) -> None:
    path = _write(project, REFUSED)
    done = project.call("run", "toy.yaml", "--allow-code", "--workdir", "work", "--device", "cpu")
    assert done.returncode == 1
    wanted = {line for _, line in _marked(path)}
    assert wanted == {int(line) for line in re.findall(r"toy_plugin\.py:(\d+)", done.stderr)}

"""Whatever the records of a work directory hold, a command ends in its answer or a diagnostic."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qatspec.plan.results import CHECKSUM


def formed(change):
    """A record of the same format whose content is changed, without a checksum that tells it."""

    def changed(text):
        record = json.loads(text)
        content = {**change(record), "format": record["format"]}
        content.pop(CHECKSUM, None)
        return json.dumps(content)

    return changed


def without(*keys):
    return formed(lambda record: {k: v for k, v in record.items() if k not in keys})


def each(value):
    return formed(lambda record: dict.fromkeys(record, value))


def having(**values):
    return formed(lambda record: {**record, **values})


def each_leaf(value):
    def changed(part):
        if isinstance(part, dict):
            return {key: changed(item) for key, item in part.items()}
        return [changed(item) for item in part] if isinstance(part, list) else value

    return formed(changed)


RECORDS = ("float/step.json", "convert/step.json", "summary.json")
DAMAGE = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "a number": lambda text: "7",
    "a mapping of nothing": lambda text: "{}",
    "format alone": lambda text: '{"format": 1}',
    "every value null": each(None),
    "every value a list": each([1]),
    "every value a mapping": each({"a": None}),
    "every value a text": each("x"),
    "every leaf null": each_leaf(None),
    "every leaf a number": each_leaf(7),
    "every leaf a path": each_leaf("../" * 9 + "\0"),
    "no outputs": without("outputs", "artifacts"),
    "no metrics": without("metrics"),
    "no keys": without("keys", "environment", "steps"),
    "no digest": without("digest", "spec", "performance"),
    "opened holds numbers": having(opened={"toy_plugin.py": 3}),
    "opened holds a list": having(opened={"toy_plugin.py": {"toy_plugin.py": [1]}}),
    "opened is a text": having(opened="x"),
    "opened is unknown": having(opened={"no_plugin.py": {"a": "b"}}),
    "another format": lambda text: json.dumps({**json.loads(text), "format": 99}),
    "nested deeply": lambda text: "[" * 100_000,
    "a huge number": lambda text: '{"format": ' + "9" * 5000 + "}",
    "not UTF-8": lambda text: "\udcff",
}
SPEC = ("toy.yaml", "--allow-code", "--workdir", "work")
COMMANDS = {
    "plan": ("plan", *SPEC),
    "report": ("report", "work"),
    "eval": ("eval", *SPEC, "--stage", "float", "--device", "cpu"),
    "infer": ("infer", *SPEC, "--model", "work/convert/toy.program", "--input", "x.npy",
              "--output", "out"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record(copy, record, command):
    np.save(copy.folder / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    path = copy.workdir / record
    whole = path.read_text()
    assert copy.call(*COMMANDS[command]).returncode == 0
    ended = {}
    for name, harm in DAMAGE.items():
        path.write_bytes(harm(whole).encode("utf-8", "surrogateescape"))
        done = copy.call(*COMMANDS[command])
        if done.returncode not in (0, 1) or (done.returncode and "error[QS" not in done.stderr):
            ended[name] = done.returncode, done.stderr.splitlines()[:1]
    assert not ended

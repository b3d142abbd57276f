"""Random and mutated files: none may crash, hang, flood the memory or execute anything.

    python tests/bench/fuzz_files.py                          # every kind, 20 seconds each
    python tests/bench/fuzz_files.py checkpoint picture --seconds 600 --state fuzz-files
    python tests/bench/fuzz_files.py bin --show 17 > damaged.bin

Kinds: program, bin, onnx, checkpoint, picture, annotations. Half of the inputs keep the container
valid (digests are computed again, archives are packed again, JSON is dumped again) and carry one
hostile change inside; the others are damaged bytes. Input number i is made from (seed, i) alone.
Each kind resumes from its own file in the folder `--state`; the budget is `--seconds` a kind. Goals
are 1,000,000 Programs, bins and ONNX files and 50,000 checkpoints, pictures and annotation files;
CI tries a few of each (tests/property/test_fuzz_files.py).
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import struct
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np
import onnx
from fuzz_seeds import SCRATCH, annotations, bins, checkpoints, onnx_files, pictures, programs

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.nets, when run as a program
from qatspec.api import Artifact, DiagnosticError, OnnxRunner, registry
from qatspec.plan.checkpoints import is_intact, read_header
from qatspec.program import serde
from qatspec.program.container import pack, unpack
from qatspec.schema.walk import with_defaults
from qatspec.train import checkpoint
from qatspec.train.weights import read_weights

#: Values of a JSON header or an annotation file that a reader may not expect.
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 255, 256, 2**31, -(2**31) - 1, 2**63, 10**40, 0.5, -0.0, 1e308,
    "", "x", "int8", "int4", "../../x", "/etc/passwd", "a\x00b", "\x1b[2J", "é" * 300, [], {}, [[]],
    [0], [-1], [1, 2, 3, 4], [10**9] * 4, {"a": 1}, ["x"], [None], float("nan"), float("inf"),
]  # fmt: skip
#: Numbers that overflow, truncate or allocate where a length is expected.
LENGTHS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**48, 2**63 - 1, 2**64 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs of a kind in all")
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of a kind in this run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="folder to resume from and to keep figures in")
    parser.add_argument("--show", type=int, help="write input number I of the kind to stdout")
    given = parser.parse_args()
    kinds = given.kinds or list(KINDS)
    if given.show is not None:
        sys.stdout.buffer.write(KINDS[kinds[0]][0](random.Random(f"{given.seed}:{given.show}")))
        return
    if given.state is not None:
        given.state.mkdir(parents=True, exist_ok=True)
    bad = False
    for kind in kinds:
        figures = fuzzing.run(
            KINDS[kind][1], count=given.count, seconds=given.seconds, seed=given.seed,
            state=given.state and given.state / f"{kind}.json",
        )  # fmt: skip
        bad |= fuzzing.failed(figures)
        print(json.dumps({"kind": kind, **figures}, indent=2))
    sys.exit(bad)


# -- mutations -------------------------------------------------------------------------------------


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut out, repeated, or replaced by lengths that no file has."""
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at + 1 :]
        elif kind == 2:
            form = rng.choice(("<I", ">I", "<Q", ">Q"))
            number = struct.pack(form, rng.choice(LENGTHS) % 2 ** (8 * struct.calcsize(form)))
            data = data[:at] + number + data[at + len(number) :]
        elif kind == 3:
            data = data[:at] + data[at + rng.randint(1, 64) :]
        elif kind == 4:
            data = data[:at] + data[at : at + 64] * rng.choice((2, 50)) + data[at + 64 :]
        elif data:
            bit = rng.randrange(len(data) * 8)
            flipped = bytes([data[bit // 8] ^ (1 << bit % 8)])
            data = data[: bit // 8] + flipped + data[bit // 8 + 1 :]
    return data


def change(value: Any, rng: random.Random) -> Any:
    """A copy of JSON data in which one value somewhere is hostile, missing, repeated or swapped."""
    value = json.loads(json.dumps(value))
    here, parents = value, []
    while isinstance(here, dict | list) and here and (not parents or rng.random() < 0.85):
        key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
        parents.append((here, key))
        here = here[key]
    if not parents:
        return rng.choice(HOSTILE)
    holder, key = parents[-1]
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, holder[rng.randrange(len(holder))])
    elif kind == 2 and isinstance(holder, list):
        other = rng.randrange(len(holder))
        holder[key], holder[other] = holder[other], holder[key]
    elif kind == 3 and type(here) in (int, float):
        holder[key] = here + rng.choice((1, -1, 2, -here, 10**9, here, 0.5))
    else:
        holder[key] = rng.choice(HOSTILE)
    return value


def _container(seeds: Callable[[], tuple[bytes, ...]], rng: random.Random) -> bytes:
    """A Program or a bin whose digests are right and whose header or sections are not."""
    data = rng.choice(seeds())
    if rng.random() < 0.4:
        return _damaged(data, rng)
    magic, version = data[:6], struct.unpack_from("<H", data, 6)[0]
    header, sections = unpack(magic, version, data)
    del header["sections"]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        header = change(header, rng)
        if not isinstance(header, dict):
            header = {"x": header}
    name = rng.choice(list(sections))
    if rng.random() < 0.3:
        sections[name] = _damaged(sections[name], rng)
    try:
        return pack(magic, version, header, sections)
    except ValueError:  # NaN has no JSON
        return _damaged(data, rng)


def make_program(rng: random.Random) -> bytes:
    return _container(programs, rng)


def make_bin(rng: random.Random) -> bytes:
    return _container(bins, rng)


def make_onnx(rng: random.Random) -> bytes:
    data = rng.choice(onnx_files())
    if rng.random() < 0.5:
        return _damaged(data, rng)
    model = onnx.load_from_string(data)
    kind = rng.randrange(5)
    if kind == 0:
        prop = rng.choice(model.metadata_props)
        try:
            prop.value = json.dumps(change(json.loads(prop.value), rng))
        except ValueError:
            prop.value = rng.choice(("", "{", "[" * 100_000, "nan"))
    elif kind == 1 and len(model.graph.node):
        node = rng.choice(model.graph.node)
        node.op_type = rng.choice(("Conv", "Loop", "Nope", "Identity", "Cast"))
    elif kind == 2:
        tensor = rng.choice(model.graph.initializer)
        tensor.dims[:] = [rng.choice(LENGTHS[:7]) % 2**62]
    elif kind == 3:
        tensor = rng.choice(model.graph.initializer)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("/etc/passwd", "../x", "a")))
    else:
        node = rng.choice(model.graph.node)
        node.input[0] = rng.choice(("", "nothing", node.output[0]))
    return model.SerializeToString()


class _Run:
    """Pickles as a call of `function`, which a safe reader never makes."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def make_checkpoint(rng: random.Random) -> bytes:
    data = rng.choice(checkpoints())
    if rng.random() < 0.05:
        return data
    if rng.random() < 0.4:
        return _damaged(data, rng)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return _hostile_pickle(rng)
    out = io.BytesIO()
    form = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", form) as new:
        names = old.namelist()
        target = rng.choice(names)
        for name in names:
            content = old.read(name)
            if name.endswith("data.pkl") and rng.random() < 0.5:
                content = _pickle_change(content, rng)
            elif name == target:
                content = rng.choice((b"", _damaged(content, rng), bytes(rng.choice((1, 1 << 24)))))
            if rng.random() < 0.97:
                new.writestr(name, content)
    return out.getvalue()


def _pickle_change(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return _hostile_pickle(rng)
    if kind == 1:  # sizes of tensors and storages: small ints become others
        at = rng.randrange(len(content))
        place = content.find(b"K", at)
        if place >= 0:
            huge = b"J" + struct.pack("<i", rng.choice((2**31 - 1, -1, 2**24, 0)))
            return content[:place] + huge + content[place + 2 :]
    if kind == 2:
        old = rng.choice((b"FloatStorage", b"_rebuild_tensor_v2", b"OrderedDict", b"format"))
        new = rng.choice((b"LongStorage", b"_rebuild_parameter", b"system", b"eval", b"Storage"))
        return content.replace(old, new, 1)
    return _damaged(content, rng)


def _hostile_pickle(rng: random.Random) -> bytes:
    import os

    calls = (
        _Run(os.system, "touch executed"), _Run(exec, "open('executed', 'w')"),
        _Run(eval, "print(1)"), _Run(bytearray, 1 << 40), _Run(print, "x"),
        _Run(getattr, 1, "real"),
    )  # fmt: skip
    value: Any = rng.choice((rng.choice(calls), {"state_dict": rng.choice(calls)}, [1], {"a": "b"}))
    if rng.random() < 0.2:
        for _ in range(rng.choice((10, 300))):
            value = [value]
    return pickle.dumps(value, protocol=rng.choice((0, 2, 4)))


def make_picture(rng: random.Random) -> bytes:
    return _damaged(rng.choice(pictures()), rng)


def make_annotations(rng: random.Random) -> bytes:
    (data,) = annotations()
    kind = rng.random()
    if kind < 0.2:
        return _damaged(data, rng)
    if kind < 0.22:
        return rng.choice((b"[" * 200_000, b'{"images":' * 5_000, b"9" * 10_000, b"\xff\xfe", b""))
    value = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        value = change(value, rng)
    return json.dumps(value).encode()


# -- what reads them -------------------------------------------------------------------------------


def _trying(make: Callable[[random.Random], bytes], read: Callable[[bytes], None]) -> Any:
    def attempt(seed: int, index: int) -> fuzzing.Tried:
        data = make(random.Random(f"{seed}:{index}"))
        try:
            read(data)
        except DiagnosticError as error:
            return sorted({d.code for d in error.diagnostics}), ""
        except BaseException:  # noqa: BLE001  anything else at all is a finding
            return [], traceback.format_exc()[-2000:]
        return [], ""

    return attempt


def open_program(folder: Path) -> Any:
    path = folder / "x.program"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        program = serde.load_program(path)
        if sum(int(np.prod(v.shape)) for v in program.values.values()) < 200_000:
            program.run(*program.quantize(*(np.zeros((1, *p.shape)) for p in program.inputs)))

    return _trying(make_program, read)


def open_bin(folder: Path) -> Any:
    path = folder / "x.bin"
    bins()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        artifact = Artifact.load(path)
        if all(int(np.prod(p.shape)) < 100_000 for p in artifact.inputs):
            artifact.run(
                *artifact.quantize(*(np.zeros((1, *p.shape)) for p in artifact.real_inputs))
            )

    return _trying(make_bin, read)


def open_onnx(folder: Path) -> Any:
    SCRATCH[0] = str(folder)
    onnx_files()
    path = folder / "x.onnx"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        runner = OnnxRunner.load(path, threads=1)
        runner.run(*runner.quantize(*(np.zeros((1, *p.shape)) for p in runner.inputs)))

    return _trying(make_onnx, read)


def open_checkpoint(folder: Path) -> Any:
    path = folder / "x-checkpoint-best.pth.tar"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        is_intact(path)
        read_header(path)
        try:
            checkpoint.load(path)
        finally:
            read_weights(path)

    return _trying(make_checkpoint, read)


def _detection(folder: Path) -> Callable[[], Any]:
    """What opens the detection set of `folder`, whose pictures are there."""
    (folder / "images").mkdir()
    for name in ("1.png", "2.png"):
        (folder / "images" / name).write_bytes(pictures()[0])
    record = registry().dataset("coco_detection")
    params = {"root": ".", "split": "val", "annotations": "a.json", "images": "images", "size": 32}
    filled = with_defaults(record.params, params)
    return lambda: record.open(filled, folder / "cache", folder)


def open_picture(folder: Path) -> Any:
    opener = _detection(folder)
    (folder / "a.json").write_bytes(annotations()[0])
    opened = opener()
    path = folder / "images/1.png"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        opened.read(path)
        opened.sample(0, np.random.default_rng(0))

    return _trying(make_picture, read)


def open_annotations(folder: Path) -> Any:
    opener = _detection(folder)

    def read(data: bytes) -> None:
        (folder / "a.json").write_bytes(data)
        opened = opener()
        for index in range(min(len(opened), 2)):
            opened.sample(index, np.random.default_rng(0))

    return _trying(make_annotations, read)


#: kind -> (what makes an input, what opens its reader)
KINDS: dict[str, tuple[Callable[[random.Random], bytes], fuzzing.Opener]] = {
    "program": (make_program, open_program),
    "bin": (make_bin, open_bin),
    "onnx": (make_onnx, open_onnx),
    "checkpoint": (make_checkpoint, open_checkpoint),
    "picture": (make_picture, open_picture),
    "annotations": (make_annotations, open_annotations),
}

if __name__ == "__main__":
    main()

"""Digests of what the zoo's nets become, to hold a change of the code's structure against.

    python tests/bench/same_bytes.py --write before.json      # on one commit
    python tests/bench/same_bytes.py --against before.json    # on another: prints what differs

For each net of the zoo at its test size: the Program, the converted ONNX, the QAT ONNX with and
without a march's options, and for bayes and bernoulli2 the binary or the code of the refusal.
Exit code 1 where a digest differs. About two minutes of one core for all nets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.nets, when run as a program
from qatspec.api import DiagnosticError, compile, export_qat_onnx, lower, to_onnx
from tests.nets import settle
from tests.zoo.zoo import Net, nets


def digests(net: Net, folder: Path) -> dict[str, str]:
    """Kind of file -> the first 16 digits of its sha256, or the codes of the refusal."""
    torch.manual_seed(0)
    model = net.build(**net.tiny).eval()
    x = torch.randn(1, net.channels, *net.tiny_size)
    prepared = settle(model, x, quantize_output=True)
    program = lower(prepared, (x,))
    file = folder / "x.onnx"
    made: dict[str, Callable[[], bytes]] = {
        "program": program.to_bytes,
        "converted": lambda: _written(to_onnx, program, file),
        "qat": lambda: _written(export_qat_onnx, prepared, file, (x,)),
        "bayes": lambda: compile(program, "bayes").to_bytes(),
        "bernoulli2": lambda: compile(program, "bernoulli2").to_bytes(),
    }
    return {kind: hashlib.sha256(_made(make)).hexdigest()[:16] for kind, make in made.items()}


def _written(write: Callable[..., Any], source: Any, file: Path, *inputs: Any) -> bytes:
    write(source, file, *inputs)
    return file.read_bytes()


def _made(make: Callable[[], bytes]) -> bytes:
    """The bytes, or the codes of the refusal."""
    try:
        return make()
    except DiagnosticError as refusal:
        return " ".join(sorted({d.code for d in refusal.diagnostics})).encode()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="file for the digests")
    parser.add_argument("--against", type=Path, help="file of digests to compare with")
    parser.add_argument("--nets", type=int, help="only the first so many nets")
    given = parser.parse_args()
    before = json.loads(given.against.read_text()) if given.against else {}
    found: dict[str, dict[str, str]] = {}
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for net in nets()[: given.nets]:
            found[net.name] = digests(net, Path(folder))
            for kind, digest in found[net.name].items():
                if given.against and before.get(net.name, {}).get(kind) != digest:
                    different += 1
                    print(f"{net.name}: {kind} differs", flush=True)
    if given.write:
        given.write.write_text(json.dumps(found, indent=1))
    print(f"{len(found)} nets, {sum(map(len, found.values()))} files, {different} different")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()

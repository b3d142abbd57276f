"""What the compilers of marches share: legalise, tile, place, schedule, encode; simulate and perf
of what they made."""

from qatspec.backend.compile import compile
from qatspec.backend.legalise import verdict
from qatspec.backend.perf import perf, write_perf
from qatspec.backend.pipeline import assemble, run_compiled
from qatspec.backend.simulate import simulate
from qatspec.backend.target import Target

__all__ = [
    "Target",
    "assemble",
    "compile",
    "perf",
    "run_compiled",
    "simulate",
    "verdict",
    "write_perf",
]

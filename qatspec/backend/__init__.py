"""What the compilers of marches share: legalise, fuse, place, emit, schedule, encode; the machine
that runs what they made, its perf; times and distances that are measured."""

from qatspec.backend.compile import compile as compile
from qatspec.backend.legalise import verdict as verdict
from qatspec.backend.measured import (
    Times as Times,
    measured_exactness as measured_exactness,
    measured_perf as measured_perf,
    run_in_batches as run_in_batches,
    time_in_turn as time_in_turn,
)
from qatspec.backend.perf import (
    Timing as Timing,
    perf as perf,
    timing as timing,
    write_perf as write_perf,
)
from qatspec.backend.pipeline import assemble as assemble
from qatspec.backend.target import Target as Target

"""The compile stage: the Program as a march's binary, with its performance report."""

from __future__ import annotations

from pathlib import Path

from qatspec.backend import compile as compile_program, write_perf
from qatspec.program import Artifact, Program, load_program
from qatspec.registry import registry
from qatspec.stages.context import Context, Exactness, Outcome
from qatspec.stages.convert import demand_exact
from qatspec.stages.integers import compare, real_inputs
from qatspec.train.files import writing


def run(context: Context) -> Outcome:
    """Compile the convert stage's Program for the spec's march."""
    program = load_program(context.workdir / str(context.source) / f"{context.spec.name}.program")
    outputs, exact = compile_to_files(context, program, context.spec.march)
    return Outcome(outputs=outputs, exact=exact)


def compile_to_files(
    context: Context, program: Program, march: str
) -> tuple[tuple[Path, ...], dict[str, Exactness]]:
    """Write `<name>.bin`, `.perf.json` and `.perf.html`; run the file as it lies on disk beside the
    Program on real images.

    Raises DiagnosticError QS922 when a march that promises equality gives other integers."""
    stage = context.spec.stages.get("compile")
    artifact = compile_program(program, march, **(stage.options if stage else {}))
    binary = context.folder / f"{context.spec.name}.bin"
    with writing(binary) as temporary:
        artifact.save(temporary)
    perf = write_perf(artifact, context.folder / context.spec.name)
    found = compare(program, Artifact.load(binary), real_inputs(context))
    if registry().march(march).bit_exact:
        demand_exact(binary, found)
    return (binary, *perf), {binary.name: found}

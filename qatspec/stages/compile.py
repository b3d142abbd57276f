"""The compile stage: the Program as a march's binary, with its performance report."""

from __future__ import annotations

from pathlib import Path

from qatspec.backend import compile as compile_program, write_perf
from qatspec.diag.codes import QS806
from qatspec.program import Artifact, Program, load_program
from qatspec.registry import registry
from qatspec.spec import runtime_input
from qatspec.stages.context import Context, Exactness, Outcome
from qatspec.stages.convert import demand_exact
from qatspec.stages.integers import compare, open_host, real_inputs
from qatspec.train.files import writing


def run(context: Context) -> Outcome:
    """Compile the convert stage's Program for the spec's march."""
    source = context.workdir / str(context.source)
    program = load_program(source / f"{context.spec.name}.program")
    outputs, exact = compile_to_files(context, program, context.spec.march, source)
    return Outcome(outputs=outputs, exact=exact)


def compile_to_files(
    context: Context, program: Program, march: str, source: Path
) -> tuple[tuple[Path, ...], dict[str, Exactness]]:
    """Write `<name>.bin`, `.perf.json` and `.perf.html`; run the file as it lies on disk beside the
    Program on real images. source: the folder of convert's files.

    Raises DiagnosticError: QS806 where it cannot be fed `rt_input_type`, QS922 when a march that
    promises equality gives other integers."""
    stage = context.spec.stages.get("compile")
    options = stage.options if stage else {}
    host = open_host(source, context.spec.name, program.tree)
    if host is not None and host.pre is not None and runtime_input(options)[0] != "featuremap":
        raise QS806.error(
            "the model begins with float ops on the host: what the compiled file is "
            "fed is not an image",
            help="delete `rt_input_type`, or move those ops out of forward",
            at="/stages/compile/rt_input_type",
        )
    artifact = compile_program(program, march, image=context.spec.input, **options)
    binary = context.folder / f"{context.spec.name}.bin"
    with writing(binary) as temporary:
        artifact.save(temporary)
    perf = write_perf(artifact, context.folder / context.spec.name)
    loaded = Artifact.load(binary)
    found = compare(program, loaded, real_inputs(context, loaded, host))
    if registry().march(march).bit_exact:
        demand_exact(binary, found)
    return (binary, *perf), {binary.name: found}

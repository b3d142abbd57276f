"""`qatspec check`: build and prepare the model without training, and report its quantization."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.after import print_after
from qatspec.cli.columns import Column, print_columns
from qatspec.cli.output import echo, echo_json, settings, tables
from qatspec.cli.outputs import demand_output, write_output
from qatspec.diag import Collector, Diagnostic, DiagnosticError, Span, grouped
from qatspec.diag.codes import QS608, QS701, QS801
from qatspec.page import demand_packages
from qatspec.plan import save_modules
from qatspec.render import clean_file

if TYPE_CHECKING:
    from rich.console import Console

    from qatspec.graph import Decision, Prepared
    from qatspec.prepare.findings import Findings
    from qatspec.spec import Spec
    from qatspec.stages.rehearsal import Refusal

FORMAT = 1


@click.command(name="check", short_help="Build and prepare the model, and report its quantization.")
@options.spec
@options.overrides
@options.workdir
@options.allow_code
@click.option(
    "--stage", help="Stage to prepare the model for. Default: the last stage that quantizes."
)
@click.option(
    "--after",
    metavar="PASS",
    help="Print the graph as it is after this pass of prepare, and stop; an unknown name lists "
    "the passes.",
)
@click.option("--print-model", is_flag=True, help="Print the prepared model, module by module.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Draw the graph as SVG, with each tensor in the colour of its integer format.",
)
def command(
    spec: Path,
    overrides: tuple[str, ...],
    workdir: Path | None,
    allow_code: bool,
    stage: str | None,
    after: str | None,
    print_model: bool,
    picture: Path | None,
) -> None:
    """Build and prepare the model of SPEC without training. Report every quantized tensor with the
    rule that applies to it, outputs that stay unquantized, batch norms that were not folded,
    modules that are called several times, branches that reach no output, and ops that stay in
    float.

    Every stage is also tried on one random batch, converted and compiled, to report what the march
    cannot run. Exit code 1: a stage of the spec would fail. Advice that the
    training departs from, most of it the community tutorial's, is listed last, each with its reason
    and line. --format json
    prints everything as data.

    The table of modules is stored in the work directory, where `explain` and `validate` read it.
    """
    from qatspec.graph.deploy import deploy
    from qatspec.graph.host import Host
    from qatspec.lower.split import host_parts
    from qatspec.prepare.findings import findings
    from qatspec.spec.advice import advise
    from qatspec.stages.rehearsal import foresee

    if after is not None and (print_model or picture is not None):
        raise click.UsageError(
            "--after prints a graph and stops: give it without --print-model and --picture"
        )
    loaded = options.load(spec, overrides, allow_code)
    if picture is not None:
        demand_packages("jinja2", "grandalf")
        demand_output(picture, loaded)
    chosen = options.quantized_stage(loaded, stage)
    if after is not None:
        print_after(loaded, chosen, after)
        return
    with loaded.document.located():
        prepared = _prepare(loaded, chosen)
    save_modules(workdir or options.default_workdir(loaded), loaded, chosen, prepared.calls)
    report = findings(prepared)
    host, unconverted = Host((), (), None, None), Collector()
    with unconverted.collect():  # `foresee` reports what cannot be converted
        host = host_parts(deploy(prepared, prepared.example_inputs))
    with loaded.document.located():
        refused, warnings, weights = foresee(options.context(loaded, workdir, device="cpu"))
    advice = advise(loaded)
    found_later = [r.diagnostic for r in refused]
    kept = _unrepeated(prepared.warnings, found_later)
    prepared.warnings = (*kept, *found_later, *warnings)
    if picture is not None:
        _draw(loaded, chosen, prepared, picture)
    if settings().format == "json":
        data = _as_data(loaded, chosen, prepared, report)
        data["host"] = {"before": host.before, "after": host.after}
        data["weights"] = weights or None
        data["advice"] = [
            {**asdict(one), "place": options.spec_location(loaded, one.at)} for one in advice
        ]
        echo_json(data)
        _exit(refused)
        return
    for warning in prepared.warnings:
        options.warn(loaded, warning)
    if print_model:
        echo(str(prepared.model))
    _report(loaded, chosen, prepared, report)
    if weights:
        echo(f"  {weights}")
    before = ""
    for one in advice:
        if one.stage != before:
            echo(f"\nadvice for {one.stage}")
        before = one.stage
        line = options.short_location(options.spec_location(loaded, one.at))
        echo(f"  {line}: {one.advice}: {one.reason}")
    for name in host.before:
        echo(f"  host    {name}: in float before the compiled program")
    for name in host.after:
        echo(f"  host    {name}: in float behind the compiled program")
    for name in dict.fromkeys(r.stage for r in refused):
        codes = [r.diagnostic.code for r in refused if r.stage == name]
        what = f"{len(codes)} x {', '.join(sorted(set(codes)))}, above"
        if name in loaded.stages:
            echo(f"\n{name} would refuse this model: {what}")
        else:
            echo(f"\nthe spec has no stage {name}, which this model does not fit: {what}")
    _exit(refused)


def _prepare(spec: Spec, stage: str) -> Prepared:
    """Prepare the model. Raises DiagnosticError with everything that is refused: by prepare, and,
    of what can be prepared in spite of that, by convert and compile."""
    from qatspec.prepare import Refused, prepare_spec
    from qatspec.stages.context import build_model
    from qatspec.stages.foresight import further_refusals

    try:
        prepared: Prepared = prepare_spec(spec, stage, build_model(spec))
    except Refused as error:
        further = [_of_a_stage(spec, d) for d in further_refusals(error, spec.march)]
        warnings = _unrepeated(error.warnings, further)
        raise DiagnosticError([*error.diagnostics, *further, *warnings]) from error
    return prepared


def _of_a_stage(spec: Spec, diagnostic: Diagnostic) -> Diagnostic:
    """An error where the spec has the stage that would refuse the model."""
    stage = "compile" if diagnostic.code == QS801 else "convert"
    return replace(diagnostic, severity="error") if stage in spec.stages else diagnostic


def _unrepeated(warnings: Iterable[Diagnostic], refused: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The warnings, one a cause, without those of ops in float (QS608) that are also refused as
    ops without integers (QS701), which names their modules."""
    lines = {line for d in refused if d.code == QS701 for line in _lines(d)}
    return [w for w in grouped(warnings) if w.code != QS608 or not lines.issuperset(_lines(w))]


def _lines(diagnostic: Diagnostic) -> set[Span | None]:
    return {diagnostic.span, *(note.span for note in diagnostic.notes if note.span is not None)}


def _exit(refused: Collection[Refusal]) -> None:
    """Exit with code 1 if a stage of the spec would fail."""
    if any(r.diagnostic.severity == "error" for r in refused):
        raise click.exceptions.Exit(1)


def _draw(spec: Spec, stage: str, prepared: Prepared, target: Path) -> None:
    from qatspec.report.flow import flow
    from qatspec.report.picture import draw_graph

    title = f"{spec.name}: stage {stage}, march {spec.march}"
    text = draw_graph(
        flow(prepared), title, lambda decision: options.spec_location(spec, decision.rule)
    )
    write_output(target, clean_file(text))


def _report(spec: Spec, stage: str, prepared: Prepared, report: Findings) -> None:
    """Print the table of decisions and the findings."""
    console = tables()
    modules = ", ".join(path or "the whole model" for path in prepared.modules)
    console.print(f"stage {stage}, march {spec.march}, prepared: {modules}\n")
    decisions = prepared.decisions.values()
    rules = list(dict.fromkeys(d.rule for d in decisions if d.rule))
    print_decisions(decisions, rules, console)
    console.print()
    for number, rule in enumerate(rules, 1):
        name = f"rule {number}" if len(rules) > 1 else "the only rule"  # which has no column
        console.print(f"  {name}  {options.spec_location(spec, rule)}")
    quantized = sum(d.fake_quant is not None for d in decisions)
    console.print(f"\n{quantized} fake-quants, {len(report.tails)} of them off as int32 tails")
    for path in report.tails:
        console.print(f"  tail    {path}")
    for shared in report.shared:
        folds = f", folded by {shared.folds} batch norms" if shared.folds else ""
        console.print(f"  shared  {shared.path}: called {shared.calls} times{folds}")
    for path in report.float_parts:
        console.print(f"  float   {path}: no fake-quant in it")
    for path in report.strays:
        console.print(f"  stray   {path}: a fake-quant outside the prepared modules")


def print_decisions(decisions: Collection[Decision], rules: list[str], console: Console) -> None:
    """A row a decision. A reason is printed where it is another one than "observed"."""
    head = (
        Column("node", title=True),
        Column("ops"),
        Column("result"),
        Column("weight"),
        Column("rule", usual="1" if len(rules) == 1 else ""),
        Column("model code", title=True),
        Column("why", usual="observed"),
    )
    rows = [
        (
            d.node.removeprefix(":"),
            " + ".join(d.ops or (d.op,)),
            _dtype(d.activation, d.fake_quant),
            _dtype(d.weight, d.weight),
            str(rules.index(d.rule) + 1) if d.rule else "",
            d.source,
            d.reason.removeprefix("observed; "),
        )
        for d in decisions
    ]
    print_columns(console, head, rows)


def _dtype(qspec: Any, present: Any) -> str:
    return qspec.dtype if qspec is not None and present else "-"


def _line(span: Span | None) -> str | None:
    """file:line of a span."""
    return None if span is None else f"{span.file}:{span.line}"


def _as_data(spec: Spec, stage: str, prepared: Prepared, report: Findings) -> dict[str, Any]:
    warnings = spec.document.resolve(prepared.warnings)
    return {
        "format": FORMAT,
        "stage": stage,
        "march": spec.march,
        "modules": list(prepared.modules),
        "decisions": [
            {**asdict(d), "rule_at": options.spec_location(spec, d.rule)}
            for d in prepared.decisions.values()
        ],
        **asdict(report),
        "warnings": [
            {
                "code": w.code,
                "severity": w.severity,
                "message": w.message,
                "help": w.help,
                "at": w.at,
                "line": _line(w.span),
                "notes": [{"text": n.text, "line": _line(n.span)} for n in w.notes],
            }
            for w in warnings
        ],
    }

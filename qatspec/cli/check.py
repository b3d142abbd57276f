"""`qatspec check`: build and prepare the model, and report what people would check by eye."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.output import settings
from qatspec.cli.takes import march_findings
from qatspec.diag.words import suggest
from qatspec.plan import save_modules

if TYPE_CHECKING:
    from qatspec.graph import Decision, Prepared
    from qatspec.prepare.findings import Findings
    from qatspec.spec import Spec

FORMAT = 1


@click.command(name="check", short_help="Build and prepare the model, and report what to look at.")
@options.spec
@options.overrides
@options.workdir
@options.allow_code
@click.option("--stage", help="The stage to prepare for; default: the last that quantizes.")
@click.option("--print-model", is_flag=True, help="Print the prepared model, module by module.")
def command(
    spec: Path,
    overrides: tuple[str, ...],
    workdir: Path | None,
    allow_code: bool,
    stage: str | None,
    print_model: bool,
) -> None:
    """Build and prepare the model of SPEC without training it: every quantized edge with the rule
    that decides it, outputs that stay unquantized, batch norms that were not folded, modules that
    are called several times, ops that stay in float, and what the march could not run: the model is
    calibrated on one random batch, lowered, and every op held against the march. With
    --format json: all of it as data.

    The work directory keeps the table of modules, from which `explain` and `validate` then know
    what rules match.
    """
    from qatspec.prepare import prepare_spec
    from qatspec.prepare.findings import findings
    from qatspec.registry import registry

    loaded = options.load(spec, overrides, allow_code)
    chosen = _stage(loaded, stage)
    with loaded.document.located():
        model = registry().model(loaded.model.type, loaded.model.at).build(loaded.model.params)
        prepared = prepare_spec(loaded, chosen, model)
    save_modules(workdir or options.default_workdir(loaded), loaded, chosen, prepared.calls)
    found = findings(prepared)
    refused = march_findings(prepared, loaded.march)
    prepared.warnings = (*prepared.warnings, *refused)
    if settings().format == "json":
        click.echo(json.dumps(_as_data(loaded, chosen, prepared, found), indent=2))
        return
    for warning in prepared.warnings:
        options.warn(loaded, warning)
    if print_model:
        click.echo(str(prepared.model))
    click.echo("\n".join(_report(loaded, chosen, prepared, found)))


def _stage(spec: Spec, asked: str | None) -> str:
    known = [s for s in ("calibration", "qat") if s in spec.stages]
    if asked is not None and asked not in known:
        raise click.UsageError(f"no stage `{asked}` prepares modules; {suggest(asked, known)}")
    if not known:
        raise click.UsageError("the spec has neither calibration nor qat: nothing is quantized")
    return asked or known[-1]


def _report(spec: Spec, stage: str, prepared: Prepared, found: Findings) -> list[str]:
    modules = ", ".join(path or "the whole model" for path in prepared.modules)
    lines = [f"stage {stage}, march {spec.march}, prepared: {modules}", ""]
    head = ("node", "ops", "activation", "weight", "why", "rule", "model code")
    lines += _table([head, *(_row(spec, d) for d in prepared.decisions.values())])
    quantized = sum(d.fake_quant is not None for d in prepared.decisions.values())
    lines += ["", f"{quantized} fake-quants, {len(found.tails)} of them off as int32 tails"]
    lines += [f"  tail    {path}" for path in found.tails]
    lines += [
        f"  shared  {m.path}: called {m.calls} times"
        + (f", folded by {m.folds} batch norms" if m.folds else "")
        for m in found.shared
    ]
    lines += [f"  float   {path}: no fake-quant in it" for path in found.float_parts]
    lines += [
        f"  stray   {path}: a fake-quant outside the prepared modules" for path in found.strays
    ]
    return lines


def _row(spec: Spec, decision: Decision) -> tuple[str, ...]:
    return (
        decision.node,
        " + ".join((decision.op, *decision.group[1:])),
        _dtype(decision.activation, decision.fake_quant),
        _dtype(decision.weight, decision.weight),
        decision.reason,
        _place(spec, decision.rule),
        decision.source,
    )


def _dtype(qspec: Any, present: Any) -> str:
    return qspec.dtype if qspec is not None and present else "-"


def _place(spec: Spec, pointer: str) -> str:
    if not pointer:
        return "-"
    span = spec.document.span(pointer)
    return f"{span.file}:{span.line}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _as_data(spec: Spec, stage: str, prepared: Prepared, found: Findings) -> dict[str, Any]:
    warnings = spec.document.resolve(prepared.warnings)
    return {
        "format": FORMAT,
        "stage": stage,
        "march": spec.march,
        "modules": list(prepared.modules),
        "decisions": [
            {**asdict(d), "rule_at": _place(spec, d.rule)} for d in prepared.decisions.values()
        ],
        **asdict(found),
        "warnings": [
            {"code": w.code, "message": w.message, "help": w.help, "at": w.at} for w in warnings
        ],
    }

"""`qatspec sensitivity`: the loss that quantizing each module causes, and rules for the worst."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console

from qatspec.cli import options
from qatspec.cli.columns import Column, print_columns
from qatspec.cli.console import CleanConsole
from qatspec.cli.held import Held, stale_option
from qatspec.cli.live import Live
from qatspec.cli.output import echo, echo_json, is_text, settings, tables
from qatspec.cli.outputs import demand_output, is_stdout, write_output
from qatspec.diag import Span
from qatspec.diag.codes import QS903
from qatspec.files import encoded
from qatspec.render import clean_line
from qatspec.source import written

if TYPE_CHECKING:
    from qatspec.analyze import Harm, Sensitivity, Suggestion
    from qatspec.graph import Prepared
    from qatspec.spec import Spec
    from qatspec.stages import Context

FORMAT = 1
#: points of the metric below which a module is left alone
_POINTS = 0.1
#: characters of a spec's name
_LONGEST_NAME = 100


@click.command(
    name="sensitivity", short_help="Rank modules by the error that their quantization causes."
)
@options.spec
@click.option(
    "--metric",
    default="sqnr",
    show_default=True,
    help="sqnr: noise at the outputs. Otherwise: a metric of the data set of data.val, such as AP.",
)
@click.option(
    "--only",
    type=click.Choice(["quantized", "float"]),
    default="quantized",
    show_default=True,
    help="quantized: quantize one module at a time. float: leave one module at a time in float.",
)
@click.option("--stage", help="Stage of the checkpoint. Default: the first stage that quantizes.")
@options.images("Number of images of data.calibration.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Number of modules to suggest rules for. Default: all above the threshold.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="YAML file to write the suggested rules to."
)
@options.overrides
@options.workdir
@options.candidate
@stale_option
@options.allow_code
def command(
    spec: Path,
    metric: str,
    only: str,
    stage: str | None,
    images: int,
    top: int | None,
    output: Path | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    candidate: str | None,
    stale: bool,
    allow_code: bool,
) -> None:
    """Quantize the modules of SPEC one at a time on calibration data, rank them by the error at the
    outputs, and suggest rules for those above a threshold (ten times the median error): 16 bits if
    the march supports them for the module, otherwise float. --output writes the rules as a spec
    that extends SPEC.

    --only quantized (the default) measures the noise of each module alone. --only float measures
    the improvement of the quantized model when one module stays in float."""
    from qatspec.stages.models import open_prepared, result_file

    loaded = options.load(spec, overrides, allow_code)
    loaded, workdir = options.of_candidate(loaded, workdir, candidate)
    if output is not None:
        demand_output(output, loaded)
        _demand_utf_8(spec, output)
    chosen = stage or next((s for s in ("calibration", "qat") if s in loaded.stages), None)
    chosen = options.quantized_stage(loaded, chosen)
    quiet = CleanConsole(stderr=True, quiet=settings().quiet or not is_text())
    with loaded.document.located(), Live(quiet, options.Warnings(loaded)) as live:
        held = Held(loaded, workdir, stale=stale)
        context = options.context(loaded, workdir, device="cpu", limit=images, locate=held.folder)
        prepared, _ = open_prepared(context, result_file(context, chosen))
        sensitivity = _measure(context, prepared, metric, only, _progress(live, chosen))
        worst = sensitivity.standing_out(_POINTS if metric != "sqnr" else 0.0)
        worst = list(sensitivity.harms[:top]) if top else worst
        suggestions = _suggestions(loaded, chosen, prepared, worst)
    if output is not None:
        _write(loaded, spec, output, sensitivity, suggestions, metric)
    if not is_text():
        echo_json(_data(loaded, chosen, sensitivity, suggestions, metric, only))
    elif output is None or not is_stdout(output):
        _print(tables(), loaded, chosen, sensitivity, suggestions, metric, only)
        if output is not None:
            echo(f"{output}: {len(suggestions)} rules, extends {spec}")
            directory = workdir or options.default_workdir(loaded)
            echo("this starts from the same float stage and keeps these results:")
            echo(f"  qatspec run {output} --workdir {directory}", wrap=False)


def _progress(live: Live, stage: str) -> Callable[[int, int], None]:
    from qatspec.types import StageEvent

    def report(done: int, total: int) -> None:
        data = {"done": done, "total": total, "unit": "module", "phase": "measure"}
        live.show(StageEvent(kind="progress", step=stage, data=data))

    return report


def _measure(
    context: Context, prepared: Prepared, metric: str, only: Any,
    progress: Callable[[int, int], None],
) -> Sensitivity:  # fmt: skip
    from qatspec.analyze import by_metric, by_noise
    from qatspec.train.evaluate import evaluate

    loader = context.loader("calibration")
    if metric == "sqnr":
        return by_noise(prepared, (b.inputs for b in loader.ordered()), only, progress)
    decoder = context.decoder()

    def measure() -> float:
        metrics = evaluate(prepared.model, decoder, loader, device=context.device)
        if metric not in metrics:
            raise click.UsageError(f"the data set gives {', '.join(metrics)}, no `{metric}`")
        return metrics[metric]

    return by_metric(prepared, measure, only, progress)


def _suggestions(
    spec: Spec, stage: str, prepared: Prepared, worst: Sequence[Harm]
) -> list[Suggestion]:
    """16 bits where the model, so prepared, meets nothing that the march refuses; else float."""
    from qatspec.analyze import Suggestion

    refused = len(_findings(spec, stage, prepared, []))
    suggestions: list[Suggestion] = []
    for harm in worst:
        if not harm.site.calls or any(call.entry for call in harm.site.calls):
            continue  # an input, or a standalone module: the rules of its unit do not decide it
        wide = Suggestion(harm.site, "qint16")
        fits = len(_findings(spec, stage, prepared, [*suggestions, wide])) <= refused
        suggestions.append(wide if fits else Suggestion(harm.site, "float"))
    return suggestions


def _findings(
    spec: Spec, stage: str, prepared: Prepared, suggestions: Sequence[Suggestion]
) -> list[Any]:
    from qatspec.analyze import patched_leaves
    from qatspec.prepare import prepare
    from qatspec.stages.context import build_model
    from qatspec.stages.foresight import march_findings

    model = build_model(spec)
    leaves = patched_leaves(spec, stage, suggestions)
    trial = prepare(
        model, prepared.example_inputs, qconfig=None, modules=leaves, march=spec.march,
        inplace=True,
    )  # fmt: skip
    return march_findings(trial, spec.march)


def _write(
    spec: Spec,
    base: Path,
    output: Path,
    sensitivity: Sensitivity,
    suggestions: Sequence[Suggestion],
    metric: str,
) -> None:
    from qatspec.analyze import patch

    relative, name = os.path.relpath(base, output.parent), patch_name(spec, output)
    content = patch(spec, relative, name, suggestions)
    measured = {harm.site.name: harm.measured for harm in sensitivity.harms}
    lines = [f"# Rules suggested by `qatspec sensitivity {clean_line(base.name)}`."]
    for s in suggestions:
        why = "16 bits" if s.remedy == "qint16" else f"float: {spec.march} has no 16 bits for it"
        lines.append(
            f"# {clean_line(s.site.name)}: {_figure(measured[s.site.name], metric)}, {why}"
        )
    if any(s.remedy == "float" for s in suggestions):
        lines += [
            "# What is float inside a quantized module trains and evaluates, but `convert` refuses",
            "# it: move it behind the outputs, or out of `quantize.modules`.",
        ]
    plain = written(content)  # values of the environment as their references
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=96)
    write_output(output, "\n".join(lines) + "\n" + text)


def _demand_utf_8(base: Path, output: Path) -> None:
    """Refuse a spec that a YAML file in `output` cannot name. Raises DiagnosticError QS903."""
    relative = os.path.relpath(base, output.parent)
    if relative.encode(errors="ignore").decode() == relative:
        return
    raise QS903.error(
        f"cannot write `{output}`: YAML cannot hold the path `{relative}` of the spec, "
        "which is not UTF-8",
        help="rename the spec, or its folder",
        span=Span(file=str(base)),
    )


def patch_name(spec: Spec, output: Path) -> str:
    """The name of a patched spec: that of the spec, then that of the file; at most as long as the
    spec language allows."""
    file_name = re.sub(r"[^A-Za-z0-9_.-]", "-", output.stem)
    name = file_name if file_name.startswith(f"{spec.name}-") else f"{spec.name}-{file_name}"
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}-{_short(name)}"


def _short(name: str) -> str:
    return hashlib.sha256(encoded(name)).hexdigest()[:8]


class _Dumper(yaml.SafeDumper):
    """Writes the key of the global rule as `"":`, where PyYAML would begin with `? ""`."""

    def check_simple_key(self) -> bool:
        empty = isinstance(self.event, yaml.ScalarEvent) and not self.event.value
        return empty or super().check_simple_key()


def _print(
    console: Console,
    spec: Spec,
    stage: str,
    sensitivity: Sensitivity,
    suggestions: Sequence[Suggestion],
    metric: str,
    only: str,
) -> None:
    remedies = {s.site.name: s.remedy for s in suggestions}
    console.print(
        f"{spec.name}: stage {stage}, march {spec.march}, only the named module {only}, "
        f"by {metric}\n"
        f"the whole model: {_figure(sensitivity.in_float, metric)} in float, "
        f"{_figure(sensitivity.quantized, metric)} quantized\n"
    )
    head = (
        Column("module", title=True),
        Column("op"),
        Column("dB" if metric == "sqnr" else metric, right=True),
        Column("rule", usual="-"),
        Column("suggestion"),
    )
    rows = [
        (
            harm.site.name,
            harm.site.op,
            _figure(harm.measured, ""),
            options.short_location(options.spec_location(spec, harm.site.rule)),
            remedies.get(harm.site.name, ""),
        )
        for harm in sensitivity.harms
    ]
    print_columns(console, head, rows)
    if not suggestions:
        console.print("\nno module is above the threshold (ten times the median error)")


def _figure(value: float, metric: str) -> str:
    unit = " dB" if metric == "sqnr" else ""
    return "exact" if value == math.inf else f"{value:.2f}{unit}"


def _data(
    spec: Spec,
    stage: str,
    sensitivity: Sensitivity,
    suggestions: Sequence[Suggestion],
    metric: str,
    only: str,
) -> dict[str, Any]:
    """measured: null where there is no noise at all."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "format": FORMAT,
        "spec": spec.name,
        "stage": stage,
        "march": spec.march,
        "metric": metric,
        "only": only,
        "float": finite(sensitivity.in_float),
        "quantized": finite(sensitivity.quantized),
        "modules": [
            {
                "module": harm.site.name,
                "op": harm.site.op,
                "measured": finite(harm.measured),
                "loss": harm.loss,
                "rule": harm.site.rule,
                "source": harm.site.source,
            }
            for harm in sensitivity.harms
        ],
        "suggestions": [{"module": s.site.name, "remedy": s.remedy} for s in suggestions],
    }

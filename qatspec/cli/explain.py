"""`qatspec explain`: the page of a diagnostic code, or the rule that quantizes a module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, echo_json, settings
from qatspec.cli.registered import qspec_words
from qatspec.diag import CODES
from qatspec.diag.words import nearest, suggest
from qatspec.plan import load_modules, rules_of
from qatspec.registry import registry
from qatspec.spec import PRECEDENCE, Call, QConfigRules, Rule, RuleMatch, Spec, decide

_CODE = re.compile(r"(?i)qs\d+")
#: Ops of one module that are explained in full; more are listed in short.
_IN_FULL = 3
Rules = Mapping[tuple[str, str], QConfigRules]


@click.command(
    name="explain", short_help="Explain a diagnostic code, or how a module is quantized."
)
@click.argument("subject")
@click.argument("module", required=False)
@click.option(
    "--op",
    "ops",
    multiple=True,
    metavar="NAME",
    help="Type of MODULE, for example torch.nn.Conv2d. Can be repeated.",
)
@click.option("--stage", help="Stage to inspect. Default: the last stage that quantizes.")
@options.overrides
@options.workdir
@options.allow_code
def command(
    subject: str,
    module: str | None,
    ops: tuple[str, ...],
    stage: str | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    allow_code: bool,
) -> None:
    """explain CODE: print what a diagnostic means and how to fix it.

    explain SPEC MODULE: print the rule that quantizes each op of MODULE, the other matching rules,
    and why they do not apply. The ops are those that `qatspec check` or a run recorded in the work
    directory. Without such a record, it is unknown whether the model has MODULE, and rules by type
    are evaluated only for the types given with --op.
    """
    if module is None:
        _print(_page(subject).splitlines())
        return
    spec = options.load(Path(subject), overrides, allow_code)
    known = [s for s in ("calibration", "qat") if s in spec.stages]
    if stage is not None and stage not in known:
        raise click.UsageError(f"no stage `{stage}` prepares modules; {suggest(stage, known)}")
    if not known:
        _print(["the spec has neither calibration nor qat: nothing is quantized"])
        return
    chosen = stage or known[-1]
    with spec.document.located():
        rules = rules_of(spec, chosen)
        calls = load_modules(workdir or options.default_workdir(spec), spec, chosen)
        unit = _unit(rules, module)
        if unit is None:
            lines = _unprepared(rules, chosen, module)
        elif calls is not None and not _inside(module, calls):
            lines = _unknown(module, calls)
        elif ops or calls is None:
            lines = _by_rules(spec, chosen, module, unit, rules, ops, built=calls is not None)
        else:
            lines = list(_built(spec, chosen, module, rules, calls))
    _print(lines)


def _print(lines: Sequence[str]) -> None:
    if settings().format == "json":
        echo_json({"format_version": 1, "lines": list(lines)})
    else:
        echo("\n".join(lines))


def _page(code: str) -> str:
    name = code.upper()
    if name not in CODES:
        hint = suggest(name, list(CODES)) if _CODE.fullmatch(code) else "give a code, such as QS201"
        raise click.UsageError(f"no diagnostic is called `{code}`; {hint}")
    entry = CODES[name]
    return f"{entry}: {entry.headline}\n\n{entry.page.rstrip()}"


def _unit(rules: Rules, module: str) -> str | None:
    """The path of the prepared module that contains `module`, None where there is none."""
    units = [unit for unit, decider in rules if not decider]
    return next((u for u in units if not u or f"{module}.".startswith(f"{u}.")), None)


def _unprepared(rules: Rules, stage: str, module: str) -> list[str]:
    paths = [unit for unit, decider in rules if not decider]
    if inside := [path for path in paths if not module or path.startswith(f"{module}.")]:
        return [f"{module or 'the model'}: prepared in parts in stage {stage}: {', '.join(inside)}"]
    near = nearest(module.partition(".")[0], paths)
    meant = f"; did you mean `{near}`?" if near else ""
    return [
        f"{module}: float in stage {stage}",
        f"  it lies in no prepared module ({', '.join(paths)}){meant}",
    ]


def _inside(module: str, calls: Sequence[Call]) -> list[Call]:
    """The ops of a module and of its submodules; every op of the model for ""."""
    return [c for c in calls if not module or f"{c.path}.".startswith(f"{module}.")]


def _unknown(module: str, calls: Sequence[Call]) -> list[str]:
    paths = {c.path.rsplit(".", i)[0] for c in calls for i in range(c.path.count(".") + 1)}
    return [
        f"{module}: the prepared model has no op in a module of this name",
        f"  {suggest(module, sorted(paths))}",
    ]


def _by_rules(
    spec: Spec,
    stage: str,
    module: str,
    unit: str,
    rules: Rules,
    ops: Sequence[str],
    *,
    built: bool,
) -> list[str]:
    """Explain by the rules alone, for the types `ops`. built: the model is known to have the
    module."""
    relative = module[len(unit) :].lstrip(".") if unit else module
    qconfig = rules[unit, ""]
    match = decide(qconfig, module=relative, ops=ops)
    condition = "" if built else ", if the model has it"
    lines = [f"{module}: {_outcome(match)} in stage {stage}{condition}"]
    lines += _decision_lines(spec, stage, unit, _at(spec, stage, unit), qconfig, match)
    if not ops and _by_type(qconfig):
        lines.append("  rules by type were omitted: pass the module's type with --op")
    if not built:
        path = spec.document.path
        lines.append(f"  the model's modules are not yet known: run `qatspec check {path}`")
    return lines


def _built(
    spec: Spec, stage: str, module: str, rules: Rules, calls: Sequence[Call]
) -> Iterator[str]:
    """Explain by the module table: every op of the module, with the rule that applies to it."""
    inside = _inside(module, calls)
    of_module = [c for c in inside if c.path == module]
    below = [c for c in inside if c.path != module]
    full = of_module[:_IN_FULL]
    by_node = {call.node: call for call in calls}
    for call in full:
        decider = by_node.get(call.anchor, call)
        qconfig = rules["" if decider.entry else decider.unit, decider.entry]
        match = decider.decide(qconfig)
        yield f"{module}: {call.names[0]} `{call.node}` {_outcome(match)} in stage {stage}"
        if decider is not call:
            yield f"  fused behind {decider.names[0]} `{decider.node}`, which decides for both"
        at = decider.entry or _at(spec, stage, decider.unit)
        yield from _decision_lines(spec, stage, decider.unit, at, qconfig, match)
        if left := _left_in_float(spec, stage, decider):
            yield f"  yet {left}"
    rest = [*of_module[_IN_FULL:], *below]
    if not rest:
        return
    yield f"{module or 'the model'}: {len(rest)} {'more ' if full else ''}ops in stage {stage}"
    for call in rest:
        decider = by_node.get(call.anchor, call)
        match = decider.decide(rules["" if decider.entry else decider.unit, decider.entry])
        by = "no rule matches it"
        if match.winner is not None:
            by = f"{_rule(match.winner)}  ({options.spec_location(spec, match.winner.at)})"
        if decider is not call:
            by += f", fused behind `{decider.node}`"
        if left := _left_in_float(spec, stage, decider):
            by += f"; yet {left}"
        yield f"  {call.path or call.node} ({call.names[0]}): {_outcome(match)} by {by}"


def _decision_lines(
    spec: Spec, stage: str, unit: str, at: str, rules: QConfigRules, match: RuleMatch
) -> Iterator[str]:
    prepared = f"`{unit}`" if unit else "the whole model"
    yield f"  prepared as {prepared}  ({options.spec_location(spec, at)})"
    if any(leaf.path == unit and not leaf.quantize_output for leaf in spec.quantization(stage)):
        yield f"  what {prepared} gives out is left at int32 (quantize_output: false)"
    if match.winner is None:
        yield "  no rule matches it"
        return
    yield f"  decided by {_rule(match.winner)}  ({options.spec_location(spec, match.winner.at)})"
    for rule in match.losers:
        yield f"  over {_rule(rule)}  ({options.spec_location(spec, rule.at)})"
    if match.qconfig is not None:
        yield f"  activation: {qspec_words(match.qconfig.activation)}"
        yield f"  weight: {qspec_words(match.qconfig.weight)}"
    yield f"  precedence: {rules.precedence} ({' > '.join(PRECEDENCE[rules.precedence])})"
    if match.shadowed:
        yield "  warning: the other precedence would decide otherwise"


def _left_in_float(spec: Spec, stage: str, call: Call) -> str:
    """Why the march leaves the op in float whatever the rules say; "" where it does not."""
    units = [leaf for leaf in spec.quantization(stage) if leaf.path == call.unit]
    preset = any(unit.prepare is not None and unit.prepare.march_preset for unit in units)
    op = call.names[0]
    reason = registry().march(spec.march).float_ops.get(op) if preset else None
    return f"{spec.march} leaves {op} in float: {reason}" if reason else ""


def _at(spec: Spec, stage: str, unit: str) -> str:
    return next(leaf.at for leaf in spec.quantization(stage) if leaf.path == unit)


def _by_type(rules: QConfigRules) -> bool:
    return any(r.kind in ("object_type", "module_name_object_type_order") for r in rules.rules)


def _outcome(match: RuleMatch) -> str:
    return "float" if match.qconfig is None else "quantized"


def _rule(rule: Rule) -> str:
    what = "the global rule" if rule.kind == "global" else f"{rule.kind} `{rule.key}`"
    value = rule.preset or ("null" if rule.value is None else "its own qconfig")
    return f"{what}: {value}"

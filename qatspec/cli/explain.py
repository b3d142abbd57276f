"""`qatspec explain`: the page of a diagnostic code, or who decides a module's quantization."""

from __future__ import annotations

import re
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.diag import CODES
from qatspec.diag.words import suggest
from qatspec.spec import ModuleQuant, QConfigRules, Rule, RuleMatch, Spec, decide
from qatspec.types import QSpec

_CODE = re.compile(r"(?i)qs\d+")


@click.command(name="explain", short_help="Explain a diagnostic code, or who decides a module.")
@click.argument("subject")
@click.argument("module", required=False)
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Its type: torch.nn.Conv2d, ...")
@click.option("--stage", help="The stage to look at; default: the last that quantizes.")
@options.overrides
@options.allow_code
def command(
    subject: str,
    module: str | None,
    ops: tuple[str, ...],
    stage: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
) -> None:
    """explain CODE: what a diagnostic means and how to mend it.

    explain SPEC MODULE: which rule decides how MODULE is quantized, which others match, and why
    they lose. Rules by type count for the types given with --op.
    """
    if module is None:
        click.echo(_page(subject))
        return
    spec = options.load(Path(subject), overrides, allow_code)
    known = [s for s in ("calibration", "qat") if s in spec.stages]
    if stage is not None and stage not in known:
        raise click.UsageError(f"no stage `{stage}` prepares modules; {suggest(stage, known)}")
    if not known:
        click.echo("the spec has neither calibration nor qat: nothing is quantized")
        return
    with spec.document.located():
        click.echo("\n".join(_decision(spec, stage or known[-1], module, ops)))


def _page(code: str) -> str:
    name = code.upper()
    if name not in CODES:
        hint = suggest(name, list(CODES)) if _CODE.fullmatch(code) else "give a code, such as QS201"
        raise click.UsageError(f"no diagnostic is called `{code}`; {hint}")
    found = CODES[name]
    return f"{found.id}: {found.title}\n\n{found.page.rstrip()}"


def _decision(spec: Spec, stage: str, module: str, ops: tuple[str, ...]) -> list[str]:
    leaf = _leaf(spec.quantization(stage), module)
    if leaf is None or leaf.qconfig is None:
        paths = [unit.path for unit in spec.quantization(stage)]
        return [
            f"{module}: float in stage {stage}",
            f"  it lies in no prepared module ({', '.join(paths)})",
        ]
    relative = module[len(leaf.path) :].lstrip(".") if leaf.path else module
    match = decide(leaf.qconfig, module=relative, ops=ops)
    lines = [f"{module}: {_outcome(match)} in stage {stage}"]
    lines.append(f"  prepared as `{leaf.path or 'the whole model'}`  {_place(spec, leaf.at)}")
    if match.winner is None:
        return [*lines, "  no rule matches it"]
    lines.append(f"  decided by {_rule(match.winner)}  {_place(spec, match.winner.at)}")
    lines += [f"  over {_rule(rule)}  {_place(spec, rule.at)}" for rule in match.losers]
    lines += _tensors(match)
    lines.append(f"  precedence: {leaf.qconfig.precedence}")
    if match.shadowed:
        lines.append("  warning: the other precedence would decide otherwise")
    if not ops and _by_type(leaf.qconfig):
        lines.append("  rules by type were left out: give the module's type with --op")
    return lines


def _leaf(leaves: tuple[ModuleQuant, ...], module: str) -> ModuleQuant | None:
    for leaf in leaves:
        if not leaf.path or module == leaf.path or module.startswith(leaf.path + "."):
            return leaf
    return None


def _by_type(rules: QConfigRules) -> bool:
    return any(r.kind in ("object_type", "module_name_object_type_order") for r in rules.rules)


def _outcome(match: RuleMatch) -> str:
    return "float" if match.qconfig is None else "quantized"


def _rule(rule: Rule) -> str:
    what = "the global rule" if rule.kind == "global" else f"{rule.kind} `{rule.key}`"
    value = rule.preset or ("null" if rule.value is None else "its own qconfig")
    return f"{what}: {value}"


def _tensors(match: RuleMatch) -> list[str]:
    config = match.qconfig
    if config is None:
        return []
    return [
        f"  activation: {_qspec(config.activation)}",
        f"  weight: {_qspec(config.weight)}",
    ]


def _qspec(spec: QSpec | None) -> str:
    if spec is None:
        return "float"
    axis = "per output channel" if spec.ch_axis == 0 else "per tensor"
    return f"{spec.dtype} {axis}, observer {spec.observer}, fake-quant {spec.fake_quant}"


def _place(spec: Spec, pointer: str) -> str:
    span = spec.document.span(pointer)
    return f"({span.file}:{span.line})"

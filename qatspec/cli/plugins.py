"""`qatspec plugins`: list, describe, check and create plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli.output import echo, echo_json, is_text, show
from qatspec.cli.registered import params_of, print_registered
from qatspec.cli.scaffold import KINDS, is_package_name, shadowed, write_package
from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS301
from qatspec.diag.words import suggest
from qatspec.registry import KINDS as REGISTERED, Plugin, Registry, registry

if TYPE_CHECKING:
    from qatspec.testing.kit import Outcome


@click.group(name="plugins", short_help="List, describe, check and create plugins.")
def command() -> None:
    """List, describe, check and create plugins: entry points of the group `qatspec`."""


@command.command(name="list", short_help="List the installed plugins and what they register.")
def list_() -> None:
    """List every installed plugin with its distribution, its version, the names that it registers
    and its errors."""
    names = registry()
    faults = names.faults()
    rows = [
        _row(names, plugin.entry_point, plugin.dist, plugin.version) for plugin in names.plugins()
    ]
    if not is_text():
        echo_json({"format_version": 1, "plugins": rows})
        return
    for row in rows:
        echo(f"{row['entry_point']}  {row['dist']}=={row['version']}")
        for kind, registered in row["registers"].items():
            echo(f"  {kind}: {', '.join(registered)}")
    show(faults)


@command.command(name="show", short_help="Describe a registered name and its params.")
@click.argument("name")
def show_(name: str) -> None:
    """Describe the model, data set, preset, observer, march, ... that is registered as NAME: the
    plugin that registers it, how a spec names it, and its params."""
    names = registry()
    records = [(kind, names.record(kind, name)) for kind in names.kinds(name)]
    if not records:
        raise DiagnosticError(_unregistered(name))
    if is_text():
        for kind, record in records:
            print_registered(kind, record, names.provider(kind, record.name))
        return
    rows = [
        {
            "kind": kind,
            "name": record.name,
            "summary": record.summary,
            "plugin": names.provider(kind, record.name).entry_point,
            "params": params_of(record),
        }
        for kind, record in records
    ]
    echo_json({"format_version": 1, "registered": rows})


@command.command(name="check", short_help="Run the conformance kit on a distribution.")
@click.argument("dist")
def check(dist: str) -> None:
    """Run every check of qatspec.testing.PluginConformance on the installed distribution DIST, or
    on the plugin whose entry point has that name. Exit code 1: a check failed."""
    rows = [(plugin, outcome) for plugin in _installed(dist) for outcome in _conform(plugin)]
    failed = sum(outcome.status == "failed" for _, outcome in rows)
    if is_text():
        for plugin, outcome in rows:
            _print(plugin, outcome)
        skipped = sum(outcome.status == "skipped" for _, outcome in rows)
        echo(f"{len(rows) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    else:
        results = [
            {"plugin": p.origin, "check": o.check, "item": o.item, "status": o.status,
             "reason": o.reason}
            for p, o in rows
        ]  # fmt: skip
        echo_json({"format_version": 1, "checks": results})
    if failed:
        raise click.exceptions.Exit(1)


@command.command(name="new", short_help="Create a plugin package.")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    required=True,
    help="Kind of record that the plugin registers. A tiled-march is compiled by qatspec, from "
    "figures of the chip; a march brings a compiler of its own.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="here",
    help="Folder in which the folder of the package is created.",
)
def new(name: str, kind: str, output: Path) -> None:
    """Create the package NAME: pyproject.toml, a plugin that registers a record of KIND, and its
    test."""
    if not is_package_name(name):
        raise click.BadParameter(f"`{name}` is not a package name: use lower-case words, my-net")
    if shadowed(name):
        raise click.BadParameter(
            f"the module `{name.replace('-', '_')}` is there already, and the package would hide "
            f"it: choose another name, qatspec-{name} or my-{name}"
        )
    folder = write_package(name, kind, output)
    echo(f"wrote {folder}")
    echo(f"next: pip install -e {folder} && qatspec plugins check {name}", wrap=False)


def _unregistered(name: str) -> Diagnostic:
    names = registry()
    known = sorted({known for kind in REGISTERED for known in names.names(kind)})
    return QS301.diagnostic(
        f"no plugin registers anything called `{name}`",
        help=suggest(name, known),
        notes=tuple(
            note
            for fault in names.faults()
            for note in (Note(f"{fault.origin}: {fault.message}"), *fault.notes)
        ),
    )


def _installed(dist: str) -> list[Plugin]:
    """The plugins of a distribution, or the one of an entry point. Raises DiagnosticError QS301 for
    a name that is neither, and the fault of one that cannot be loaded."""
    plugins = registry().plugins()
    matching = [p for p in plugins if dist.replace("_", "-") == p.dist.replace("_", "-")]
    matching = matching or [p for p in plugins if p.entry_point == dist]
    if not matching:
        names = sorted({p.dist for p in plugins} | {p.entry_point for p in plugins})
        message = f"no installed distribution with plugins is called `{dist}`"
        here = (Path(dist) / "pyproject.toml").is_file()
        help_ = f"install it first: pip install -e {dist}" if here else suggest(dist, names)
        raise QS301.error(message, help=help_ or "pip install it")
    faults = [p.fault for p in matching if p.fault is not None]
    if faults:
        raise DiagnosticError(faults)
    return matching


def _conform(plugin: Plugin) -> list[Outcome]:
    from qatspec.testing.kit import conform  # checks of models and handlers load torch

    return conform(plugin.module)


def _print(plugin: Plugin, outcome: Outcome) -> None:
    echo(f"{outcome.status:8}{plugin.entry_point:14}{outcome.item:32}{outcome.check}")
    if outcome.reason:
        for line in outcome.reason.splitlines():
            echo(f"{'':8}{line}")


def _row(names: Registry, entry_point: str, dist: str, version: str) -> dict[str, Any]:
    return {
        "entry_point": entry_point,
        "dist": dist,
        "version": version,
        "registers": names.registered(entry_point),
    }

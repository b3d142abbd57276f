"""`qatspec plugins`: what is installed, from where, and what it registers."""

from __future__ import annotations

import json
from typing import Any

import click

from qatspec.cli.output import is_text, show
from qatspec.registry import Registry, registry


@click.group(name="plugins", short_help="List installed plugins and what they register.")
def command() -> None:
    """Installed plugins: entry points of the group `qatspec`."""


@command.command(name="list", short_help="Every plugin with what it registers.")
def list_() -> None:
    """Every plugin with its distribution and version, what it registers, and its faults."""
    names = registry()
    faults = names.faults()
    rows = [
        _row(names, plugin.entry_point, plugin.dist, plugin.version) for plugin in names.plugins()
    ]
    if not is_text():
        click.echo(json.dumps({"format_version": 1, "plugins": rows}, indent=2))
        return
    for row in rows:
        click.echo(f"{row['entry_point']}  {row['dist']}=={row['version']}")
        for kind, registered in row["registers"].items():
            click.echo(f"  {kind}: {', '.join(registered)}")
    show(faults)


def _row(names: Registry, entry_point: str, dist: str, version: str) -> dict[str, Any]:
    return {
        "entry_point": entry_point,
        "dist": dist,
        "version": version,
        "registers": names.registered(entry_point),
    }

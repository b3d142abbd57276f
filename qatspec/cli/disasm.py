"""`qatspec disasm`: the commands of a compiled file, and what differs between two."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path
from typing import Any

import click

from qatspec.cli.columns import Column, print_columns
from qatspec.cli.output import echo, echo_json, settings, tables

#: What two files are compared by, beside the number of commands.
_FIGURES = (
    "latency (us)", "DDR bytes per frame", "on-chip bytes used", "BPU OPs per frame (effective)",
)  # fmt: skip


@click.command(name="disasm", short_help="Print the commands of a compiled file, or compare two.")
@click.argument("file", metavar="FILE.bin", type=click.Path(path_type=Path))
@click.argument("other", metavar="[OTHER.bin]", required=False, type=click.Path(path_type=Path))
def command(file: Path, other: Path | None) -> None:
    """Print the command stream of FILE.bin: each layer with its ops and line of the model, and its
    commands with channels, rows and addresses on chip.

    With OTHER.bin, print the modelled figures of both and the commands that differ. Exit code 1:
    the streams differ.
    """
    if other is None:
        lines, _ = _read(file)
        if settings().format == "json":
            echo_json({"listing": lines})
        else:
            echo("\n".join(lines))
        return
    (before, old), (after, new) = _read(file), _read(other)
    changes = list(unified_diff(before, after, str(file), str(other), lineterm="", n=1))
    figures = {name: [old[name], new[name]] for name in _FIGURES}
    figures["commands"] = [sum(line.startswith(" ") for line in some) for some in (before, after)]
    if settings().format == "json":
        echo_json({"figures": figures, "diff": changes})
    else:
        head = [Column("figure", title=True)]
        head += [Column(path.name, right=True) for path in (file, other)]
        rows = [[name, *(f"{value:,.10g}" for value in pair)] for name, pair in figures.items()]
        print_columns(tables(), head, rows)
        echo("\n".join(changes))
    if changes:
        raise click.exceptions.Exit(1)


def _read(file: Path) -> tuple[list[str], dict[str, Any]]:
    """The listing of a file, and its modelled figures."""
    from qatspec.backend import perf
    from qatspec.backend.disasm import listing
    from qatspec.backend.encode import decode
    from qatspec.program import Artifact

    artifact = Artifact.load(file)
    report = perf(artifact)["summary"]  # refuses a file of a march without commands
    return list(listing(decode(artifact))), report

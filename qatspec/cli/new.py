"""`qatspec new`: write a spec to start from."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import click

from qatspec.cli.output import echo
from qatspec.cli.outputs import write_output
from qatspec.cli.schema import schema_text
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS906
from qatspec.diag.words import suggest

#: Where the templates, which are specs of the repository, find their schema; and copies theirs.
_SCHEMA, SCHEMA_FILE = "../schemas/qatspec-1.schema.json", "qatspec.schema.json"
TEMPLATES = importlib.resources.files("qatspec.cli") / "templates"
_MARCH = "bayes"


def names() -> list[str]:
    """The templates that ship with the package."""
    return sorted(t.name.removesuffix(".yaml") for t in TEMPLATES.iterdir())


@click.command(name="new", short_help="Write a spec to start from.")
@click.argument("source", required=False, metavar="[TEMPLATE|DIR]")
@click.option("--list", "listed", is_flag=True, help="List the templates.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("specs"),
    show_default=True,
    help="Folder of the spec, or its file: a name that ends with .yaml.",
)
@click.option(
    "--from",
    "library",
    metavar="LIBRARY:NAME",
    help="A classifier of a library with its published weights, for the pictures of DIR or for "
    "those of ImageNet: timm:NAME or torchvision:NAME.",
)
@click.option("--type", "kind", metavar="NAME", help="Data set to read DIR as, if it fits several.")
@click.option("--march", default=_MARCH, show_default=True, help="March of the spec.")
def command(
    source: str | None,
    listed: bool,
    output: Path,
    library: str | None,
    kind: str | None,
    march: str,
) -> None:
    """Write a spec that is ready for `qatspec run`, and the JSON Schema of specs, which editors use
    to complete and check it. `qatspec schema` updates the schema.

    TEMPLATE is one of `--list`. DIR is a folder of pictures and labels. Its format is recognised
    and printed (COCO, VOC, YOLO, masks, a CSV table, a folder for each class), and the spec uses it
    as training data. With --from alone, the spec expects ImageNet's folders beside it."""
    if listed:
        for name in names():
            echo(f"{name}  {_first_words(name)}")
    elif source is None and library is None:
        raise click.UsageError("give a template (`qatspec new --list`) or a folder of pictures")
    elif source is not None and source in names():
        if library is not None:
            raise click.UsageError("a template has its own model: leave --from out")
        if march != _MARCH:
            raise click.UsageError(
                f"a template has its own march: leave --march out, and run it with "
                f"`--set march={march}`"
            )
        text = (TEMPLATES / f"{source}.yaml").read_text("utf-8").replace(_SCHEMA, SCHEMA_FILE, 1)
        _write(_target(output, source), text)
    elif source is not None and not Path(source).is_dir():
        raise click.UsageError(_no_source(source))
    else:
        _compose(None if source is None else Path(source), output, library, kind, march)


def _no_source(source: str) -> str:
    """Why `source` is nothing to write a spec for."""
    if Path(source).exists():
        return f"`{source}` is a file; give a folder of pictures and labels (unpack an archive)"
    folder = Path(source).absolute().parent
    beside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    near = suggest(Path(source).name, [*names(), *beside])
    hint = near if near and near.startswith("did") else suggest(source, names())
    return f"there is no folder `{source}`, and no template of this name; {hint}"


def _compose(
    folder: Path | None, output: Path, library: str | None, kind: str | None, march: str
) -> None:
    """Write a spec for a folder, for a classifier of a library, or for both."""
    from qatspec.cli import new_data, new_tasks
    from qatspec.registry import registry

    registry().march(march)
    chosen = new_tasks.named(library) if library is not None else None
    name = new_data.spec_name(folder.resolve().name if folder else (library or "").split(":")[-1])
    target = _target(output, name)
    _demand_free(target)
    if folder is None:
        assert chosen is not None
        draft = new_tasks.draft(chosen, name, march)
    else:
        inspected = new_data.inspect(folder, kind)
        new_data.print_found(inspected)
        draft = new_data.draft(inspected, name, target.parent, march, chosen)
    for note in chosen.notes if chosen else ():
        echo(f"  {note}")
    _write(target, draft.text(), smoke=folder is None)


def _target(output: Path, name: str) -> Path:
    """The file of a spec called `name`. Raises UsageError where --output is a file that is no
    spec."""
    if output.suffix in (".yaml", ".yml") and not output.is_dir():
        return output
    if output.is_file():
        raise click.UsageError(f"--output: `{output}` is a file; give a folder, or a name.yaml")
    return output / f"{name}.yaml"


def _write(target: Path, text: str, *, smoke: bool = False) -> None:
    """smoke: the spec has no data yet."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise DiagnosticError(_there(target)) from None
    write_output(target.parent / SCHEMA_FILE, schema_text())
    echo(f"wrote {target}, and {SCHEMA_FILE} for editors")
    echo(f"next: qatspec run --smoke {target} (two steps of each stage)", wrap=False)
    if not smoke:
        echo(f"then: qatspec run {target}", wrap=False)


def _demand_free(target: Path) -> None:
    if target.exists():
        raise DiagnosticError(_there(target))


def _there(target: Path) -> Diagnostic:
    return QS906.diagnostic(
        f"`{target}` is already there",
        help="move it away, or choose another folder or file with --output",
        span=Span(file=str(target)),
    )


def _first_words(name: str) -> str:
    """What a template says of itself in its first comment."""
    lines = (TEMPLATES / f"{name}.yaml").read_text("utf-8").splitlines()
    said = [line.removeprefix("#").strip() for line in lines if line.startswith("# ")]
    return next((line.rstrip(":") for line in said if "$schema" not in line), "")

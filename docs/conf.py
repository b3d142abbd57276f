"""The documentation site: `python -m sphinx docs build/docs`.

Pages are the project's own Markdown files; the pages of diagnostics are written from the table of
codes at every build, so that they cannot be out of date.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from qatspec.diag.codes import CODES

project = "qatspec"
author = "The qatspec authors"
release = importlib.metadata.version("qatspec")
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
html_theme = "furo"
html_title = f"qatspec {release}"
html_show_sourcelink = False
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# README and the references link to files of the repository that are not pages of the site.
suppress_warnings = ["myst.xref_missing", "myst.header"]

HERE = Path(__file__).parent
#: page of the site -> the file of the repository that it shows
PAGES = {
    "readme": "README.md",
    "spec": "schemas/README.md",
    "specs": "specs/README.md",
    "plugins": "plugins/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}


def diagnostics() -> str:
    """One page of every diagnostic code, with its title and explanation."""
    entries = [f"## {code}: {code.headline}\n\n{code.page.strip()}\n" for code in CODES.values()]
    return "# Diagnostics\n\n" + "\n".join(entries)


def write_pages(app: Any) -> None:
    """Write what the site shows of the repository below `docs/generated`."""
    target = HERE / "generated"
    target.mkdir(exist_ok=True)
    for name, source in PAGES.items():
        text = f"```{{include}} ../../{source}\n:relative-docs: .\n:relative-images:\n```\n"
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    for page in sorted((HERE.parent / "qatspec/adr").glob("*.md")):
        name = "decisions" if page.stem == "README" else page.stem
        text = page.read_text("utf-8")
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    (target / "diagnostics.md").write_text(diagnostics(), encoding="utf-8")


def link_pages(app: Any, name: str, source: list[str]) -> None:
    """Turn links of a page to files of the repository, which a reader of the repository follows,
    into links to the site's pages of these files."""
    if name.startswith("generated/"):
        return
    pages = {path: page for page, path in PAGES.items()} | {"qatspec/adr/README.md": "decisions"}
    for path, page in pages.items():
        source[0] = source[0].replace(f"](../{path}", f"](generated/{page}.md")
    source[0] = source[0].replace("](../qatspec/adr/", "](generated/")


def setup(app: Any) -> None:
    """Sphinx calls this before it reads any page."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_pages)

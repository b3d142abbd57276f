"""The project's terms: retired words and names stand in no file that a person reads.

A word is retired for a standard term, which the table gives. CHANGELOG.md keeps the words that it
was written with, and so do the tables of renamed names.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("qatspec", "plugins", "docs", "schemas", "specs", "tests")
SUFFIXES = {".py", ".md", ".json", ".yaml", ".toml", ".jinja", ".tmpl", ".txt"}
#: Files that hold old names because that is their purpose.
RECORDS = {
    "qatspec/registry/renames.py",
    "qatspec/adr/0031-plugin-api-version-2.md",
    "tests/contract/api_1.txt",
    "tests/contract/test_words.py",
}

#: retired word -> the term to use. Letter case does not matter.
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"rooms?": "package (of the code), space (of a memory)",
    r"blam(e|es|ed|ing)": "attribute (an error to its origin)",
    r"whose fault": "the origin of the error",
    r"broken-off": "interrupted",
}

#: retired identifier -> the name that replaced it.
NAMES = {
    "blame_owner": "attribute_errors_of",
    "doubts": "disputes",
    "culprit": "plugin_fault",
    "undisputed": "require_undisputed",
    "refuse_early": "preflight",
    "settle_scales": "clamp_scales",
    "Ported": "IntegerModel",
    "Carriers": "ExactDtypes",
    "need_plain": "require_batch_first",
    "is_whole": "is_integer_tensor",
    "as_whole": "as_int32",
    "adopt_calls": "functional_to_module",
    "write_out_attention": "decompose_attention",
}


def _files() -> list[Path]:
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml")]
    for folder in FOLDERS:
        found += [p for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES]
    skipped = {"__pycache__", "generated", "build", "runs"}
    return [
        path
        for path in sorted(found)
        if path.relative_to(ROOT).as_posix() not in RECORDS and not skipped & set(path.parts)
    ]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The text of each file, by its path in the project."""
    return {p.relative_to(ROOT).as_posix(): p.read_text("utf-8", "replace") for p in _files()}


def _lines(texts: dict[str, str], pattern: str, flags: int = 0) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts.items()
        for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags)
    ]


def test_the_texts_are_those_of_the_project(texts):
    assert {"README.md", "qatspec/api.py", "docs/glossary.md", "specs/README.md"} <= texts.keys()


@pytest.mark.parametrize(("word", "term"), WORDS.items())
def test_retired_words(word, term, texts):
    assert not _lines(texts, word, re.IGNORECASE), f"use: {term}"


@pytest.mark.parametrize(("name", "new"), NAMES.items())
def test_retired_names(name, new, texts):
    assert not _lines(texts, re.escape(name)), f"use: {new}"

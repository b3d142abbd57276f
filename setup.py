"""The long description of the package: README as a package index can show it.

Everything else stands in pyproject.toml. An index has neither the pictures nor the pages of the
repository. Where `project.urls` names the repository as `Source`, README's relative links are made
absolute; where it does not, a picture becomes its description, and a link the words of the link.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
#: A picture or a link of Markdown to a file of the repository, not to an address or a heading.
_RELATIVE = re.compile(r"(!?)\[([^\]]+)\]\((?![a-z]+:|#)([^)\s]+)\)")


def long_description(readme: str, source: str | None) -> str:
    """README with links that work outside of the repository; `source` is its address on GitHub."""

    def changed(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        if source:
            return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/HEAD/{path})"
        return f"*Picture: {words}*" if picture else words

    return _RELATIVE.sub(changed, readme)


def source(pyproject: str) -> str | None:
    """The address of the repository, where pyproject.toml names one."""
    named = re.search(r'^Source = "(.+?)/?"$', pyproject, re.MULTILINE)
    return named[1] if named else None


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text("utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    setup(
        long_description=long_description(readme, source(pyproject)),
        long_description_content_type="text/markdown",
    )

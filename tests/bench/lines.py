"""Lines of code of each package: without docstrings, comments and blank lines.

    python tests/bench/lines.py                       # packages of qatspec/, and the sum
    python tests/bench/lines.py plugins tests         # other folders
    python tests/bench/lines.py --commit 9c46cd4      # the same at another commit

A line counts where a token of the code stands on it or a string crosses it. The second column
leaves out `example.py`, the cases of the test kit that lie in the op families. The last lines name
the files over 400 lines, all lines counted.
"""

from __future__ import annotations

import argparse
import ast
import collections
import io
import subprocess
import tarfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 400
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> int:
    """Number of lines that hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in LAYOUT
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - set(docstring_lines(ast.parse(source))))


def docstring_lines(tree: ast.Module) -> Iterator[int]:
    """The lines of the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            yield from range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)


def sources(folder: str, commit: str | None) -> Iterator[tuple[Path, str]]:
    """Path below the repository's root and text of each module, today's or a commit's."""
    if commit is None:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT), file.read_text()
        return
    archive = subprocess.check_output(["git", "archive", commit, folder], cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            if member.name.endswith(".py") and (stream := files.extractfile(member)):
                yield Path(member.name), stream.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", default=["qatspec"], help="default: qatspec")
    parser.add_argument("--commit", help="count the files of this commit")
    options = parser.parse_args()
    packages: collections.Counter[str] = collections.Counter()
    examples: collections.Counter[str] = collections.Counter()
    long: list[str] = []
    for folder in options.folders:
        for path, source in sources(folder, options.commit):
            package = "/".join(path.parts[:2]) if len(path.parts) > 2 else path.parts[0]
            count = code_lines(source)
            packages[package] += count
            examples[package] += count if path.name == "example.py" else 0
            if source.count("\n") > LONGEST:
                long.append(f"{path}: {source.count(chr(10))} lines in all")
    for package in sorted(packages):
        print(f"{package:32}{packages[package]:8}{packages[package] - examples[package]:8}")
    print(f"{'all':32}{packages.total():8}{packages.total() - examples.total():8}")
    print(*long, sep="\n")


if __name__ == "__main__":
    main()

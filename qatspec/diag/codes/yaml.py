"""QS1xx: YAML text."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS101",
        "a file cannot be read",
        """\
The spec, or a file that it extends, is missing, is a folder, or may not be read.

**Mend.** Check the path. Paths in `extends` are relative to the file that names them.
""",
    ),
    Code(
        "QS102",
        "not valid YAML",
        """\
The text breaks YAML's grammar at the marked place (or on the line before it).

**Mend.** The usual reasons: a colon without a space after it, a colon inside an unquoted text, an
unclosed bracket or quote, a key that is indented by other than its siblings.

**Example.** `name: fcos: b0` needs quotes: `name: "fcos: b0"`.
""",
    ),
    Code(
        "QS103",
        "a key stands twice in one mapping",
        """\
YAML readers silently keep the last of two equal keys; half of an edit is then lost. qatspec names
both places instead.

**Mend.** Delete one of the two, or merge what stands below them.
""",
    ),
    Code(
        "QS104",
        "the file is not UTF-8 text",
        """\
Specs are UTF-8. The bytes at the marked place are not: the file was saved in another encoding
(UTF-16, GBK, Latin-1), or is not a text file.

**Mend.** Save it as UTF-8 in your editor, or `iconv -f GBK -t UTF-8 spec.yaml -o spec.utf8.yaml`.
""",
    ),
    Code(
        "QS105",
        "a tab in the indentation",
        """\
YAML forbids tabs in indentation: editors disagree on their width.

**Mend.** Replace them by spaces (`expand -t 2 spec.yaml`), two a level.
""",
    ),
    Code(
        "QS106",
        "an unresolved merge conflict",
        """\
Lines that begin with `<<<<<<<` and `>>>>>>>` are git's: a merge stopped and both sides still stand
in the file.

**Mend.** Keep one side, delete the marker lines, then `git add` the file.
""",
    ),
    Code(
        "QS107",
        "the spec grows too large",
        """\
Aliases (`*name`) and references (`${vars.x}`) repeat what they name. Repeats of repeats grow
without bound (the "billion laughs" attack), so a spec may have at most 200,000 values in all, and
an alias may not contain itself.

**Mend.** Write the values out, or split the spec.
""",
    ),
    Code(
        "QS108",
        "nested too deep",
        """\
Values may nest 64 levels deep, files may extend each other 16 levels deep. No real spec comes near
it; generated or damaged files do.

**Mend.** Check the program that wrote the file, and unclosed brackets.
""",
    ),
    Code(
        "QS109",
        "the file is too large",
        """\
A spec may have at most 2 MiB. Larger files are almost always something else: a checkpoint, a
dataset's annotations, a log.

**Mend.** Check the path that you gave.
""",
    ),
    Code(
        "QS110",
        "YAML that specs do not use",
        """\
Specs are plain data: mappings with text keys, lists, texts, numbers, booleans, null. Tags
(besides `!!str` and `!replace`), merge keys (`<<`), several documents in one file, and
collections as keys are refused, because readers disagree on what they mean.

**Mend.** For `<<: *base` use `extends`, or a reference: `${vars.base}`. Remove other tags.
""",
    ),
    Code(
        "QS111",
        "a spec is a mapping",
        """\
The file is empty, or its top level is a list or a text.

**Mend.** Begin with `qatspec: 1`. `qatspec new quickstart` writes a spec to start from.
""",
    ),
    Code(
        "QS112",
        "a control character in the text",
        """\
The marked character is not printable, and YAML forbids it. It usually came in by copying from a
terminal, a web page or a PDF.

**Mend.** Delete it; inside double quotes write it as an escape (`"\\\\x1b"`).
""",
    ),
    Code(
        "QS113",
        "not a finite number",
        """\
`.inf`, `.nan` and numbers beyond the range of a 64-bit float have no meaning in a spec.

**Mend.** Give a finite number, or put quotes around a text that happens to look like a number.
""",
    ),
    Code(
        "QS114",
        "a file cannot be mended",
        """\
`qatspec validate --fix` writes a mended file beside the old one and then puts it in its place. It
may not write there, or the file changed between reading and writing. Nothing was changed.

**Mend.** Check the permissions of the file and its folder, or make the edits by hand: `qatspec
validate` without `--fix` names them.
""",
    ),
    Code(
        "QS115",
        "a file that is no spec is extended",
        """\
`extends` names other specs, whose names end in `.yaml` or `.yml`. A message about a spec shows its
lines, so a file of another kind (a key, a list of passwords) is not even opened.

**Fix.** Delete the entry, or rename the file if it is a spec.

    extends: base.yaml
""",
    ),
)

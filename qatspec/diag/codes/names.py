"""QS3xx: names, references and rules."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS301",
        "an unknown name",
        """\
No installed plugin registers this name.

**Mend.** The help names the nearest one, or all there are; `qatspec plugins list` shows who
registers what. A model of your own needs a plugin: `plugins: [./my_model.py]`, or an installed
package with an entry point in the group `qatspec`.
""",
    ),
    Code(
        "QS302",
        "a reference to a variable that is not there",
        """\
`${vars.x}` names no entry below `vars`, in this spec or those it extends; or `--set vars.x=...`
sets one that no file declares, so that nothing would read it.

**Mend.** Declare it under `vars:`, or mend the name. References nest and index lists:
`${vars.epochs.${vars.fast}}`.
""",
    ),
    Code(
        "QS303",
        "an environment variable is not set",
        """\
`${env:NAME}` takes its text from the environment of the command, and there is none.

**Mend.** `export NAME=...` before the command; or give the value in the spec.
""",
    ),
    Code(
        "QS304",
        "a malformed reference",
        """\
A reference is `${vars.<path>}` or `${env:<NAME>}`, and inside a longer text it must name a single
value, not a list or a mapping.

**Mend.** Mend the name; a literal `${` is written `$${`. Inside `{...}` and `[...]` put
quotes around a reference: YAML takes its braces for a mapping.
""",
    ),
    Code(
        "QS305",
        "references go in a circle",
        """\
A variable's value refers to itself, through the chain in the message.

**Mend.** Give one of them a value of its own.
""",
    ),
    Code(
        "QS306",
        "a --set that cannot be applied",
        """\
`--set a.b.c=value` replaces one value of the spec before references are resolved. The value is
read as YAML: `8` is a number, `[1, 2]` a list, `null` is null.

**Mend.** Quote it for your shell (`--set 'a.b=[1, 2]'`). Lists take an index (`a.0=...`).
""",
    ),
    Code(
        "QS307",
        "files extend each other in a circle",
        """\
`extends` must come to an end; the message names the chain.

**Mend.** Move what the files share into one that extends nothing.
""",
    ),
    Code(
        "QS308",
        "a name that torch does not have",
        """\
Rules by type and the classes of `prepare` name Python objects by their full names:
`torch.nn.Conv2d`, `torch.add`, `operator.add`, or the op's canonical name, `conv2d`. The name is
looked up in a table of torch's public names and of what plugins register; nothing that a spec says
is ever imported. A name that does not exist would match nothing, silently.

**Mend.** The help names the nearest one. Every spelling of an op means the same op: a rule for
`torch.add` holds for `+`, `Tensor.add` and `operator.add` too.

**Example.** `torch.nn.Conv2D` -> `torch.nn.Conv2d`; `torch.nn.functional.add`, which torch never
had, -> `torch.add`.
""",
    ),
    Code(
        "QS309",
        "a chip's name where a march belongs",
        """\
`march` is the architecture of the chip's accelerator, not the chip: bernoulli2 is that of XJ3 (J3,
X3), bayes that of J5.

**Mend.** Write the march that the help names.
""",
    ),
    Code(
        "QS310",
        "not a valid regular expression",
        """\
Keys below `module_name_regex` are Python regular expressions, matched from the start of the
module's name (`re.match`). In YAML, put them in single quotes so that backslashes stay as they
are.

**Mend.** Close brackets, and write a dot that is meant as a dot as `\\.`.

**Example.** `'head\\.cls_convs\\.[0-9]+'`.
""",
    ),
    Code(
        "QS311",
        "a regular expression that may never end",
        """\
Repeats inside repeats (`(a+)+`), repeated alternatives that begin alike (`(a|ab)*`) and many
unbounded repeats in one pattern can take time exponential in the length of a module's name. Such a
rule would hang the run, so it is refused.

**Mend.** Name what differs: `head\\.cls_convs\\.\\d+` instead of `(.*)*\\d+`.
""",
    ),
    Code(
        "QS312",
        "a rule that matches nothing",
        """\
No op of the prepared modules has the name, the type or the path that the rule names, so the rule
has no effect.

**Mend.** Names are relative to the prepared module (`stem.conv` below `modules.backbone`, not
`backbone.stem.conv`); `qatspec check` prints every op with its module.
""",
    ),
    Code(
        "QS313",
        "a rule that can never win",
        """\
Another rule of the same kind with the same key stands before this one; the first wins.

**Mend.** Delete one of the two.
""",
    ),
    Code(
        "QS314",
        "two rules that contend for an op",
        """\
Two rules match the op, and which one wins depends on `precedence`: the tutorial puts object types
before module names, torch documents module names before object types. The message names both.

**Mend.** Nothing, if the winner is meant; else set `precedence: module_name_first` (or
`object_type_first`), or make the rules disjoint.
""",
    ),
)

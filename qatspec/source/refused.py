"""Parts of YAML that specs do without, and what to write instead: merge keys and tags."""

from __future__ import annotations

import re

from qatspec.source.tree import Tree
from qatspec.source.write import scalar

#: The one tag of specs: what it stands before replaces, and is not merged.
REPLACE = "!replace"
#: Tags of other tools, in lower case -> what a spec has for them, with the value behind the tag.
_OTHERS = {
    **dict.fromkeys(("!env", "!env_var", "!envvar"), 'write `{key}: "${{env:{value}}}"`'),
    **dict.fromkeys(
        ("!include", "!import", "!inc"),
        "write `extends: {value}` at the top of the spec; the file holds the key `{key}` as well",
    ),
}
#: Tags of PyYAML that stand for a call or a Python object, not for the value behind them.
_CALL = re.compile(r"!!python/(object|name|module)")


def instead_of_merge(value: Tree) -> str:
    """How the `value` of a merge key is written out."""
    if not isinstance(value.value, dict) or not value.value:
        return "write its keys out in place of this line"
    plain = {key: item.value for key, item in value.value.items()}
    if any(isinstance(item, dict | list) for item in plain.values()):
        written = ", ".join(f"`{key}: ...`" for key in plain)
    else:
        written = ", ".join(f"`{scalar(k)}: {scalar(v)}`" for k, v in plain.items())
    return f"delete `<<` and write its keys themselves, one a line: {written}"


def instead_of_tag(tag: str, line: str, first: int, key: str) -> tuple[str, str, int]:
    """(the tag as it is written, how to do without it, how many characters to delete for that; 0
    where that alone does not fix it).

    line: what the tag stands in, from column `first` on; key: the innermost key around it.
    """
    shown = tag.replace("tag:yaml.org,2002:", "!!")
    if shown == REPLACE:
        return shown, "delete it: it stands before a mapping or a list", 0
    if _CALL.match(shown):
        help_ = f"a spec calls nothing: write the value itself, such as `{key}: 10`"
        return shown, help_, 0
    rest = line[first:]
    if not rest.startswith(shown):
        return shown, "delete the tag and keep the value behind it", 0
    value = rest[len(shown) :].lstrip()
    if other := _OTHERS.get(shown.lower()):
        name = re.split(r"[\s,}\]]", value)[0]
        return shown, other.format(key=key, value=re.sub(r"[${}\"']", "", name)), 0
    return shown, f"delete it: `{(line[:first] + value).strip()}`", len(rest) - len(value)

"""extends, vars, --set, and the places that values keep through all of them."""

import pytest

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS203
from qatspec.source import load_document, split_lines
from qatspec.source.fixes import edited


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def failure(path, *overrides):
    with pytest.raises(DiagnosticError) as error:
        load_document(path, overrides)
    return error.value.diagnostics


def sliced(document, pointer):
    """The source text that a pointer's span covers."""
    span = document.spans[pointer][1]
    assert span.line == span.end_line
    return split_lines(document.texts[span.file])[span.line - 1][span.col - 1 : span.end_col - 1]


def test_spans_reslice_to_the_source(write):
    path = write("a.yaml", 'a: {b: [1, "zwei", drei vier]}\nc: \U0001f600x # no\nd: {e: f}\n')
    document = load_document(path)
    assert sliced(document, "/a/b/0") == "1"
    assert sliced(document, "/a/b/1") == '"zwei"'
    assert sliced(document, "/a/b/2") == "drei vier"
    assert sliced(document, "/a/b") == '[1, "zwei", drei vier]'
    assert sliced(document, "/c") == "\U0001f600x"
    assert document.span("/d/e", key=True).col == 5


def test_later_wins_and_keeps_its_place(write):
    write("base/one.yaml", "name: one\ndeep: {a: 1, b: 1}\nlist: [1, 2]\n")
    write("base/two.yaml", "name: two\ndeep: {b: 2}\n")
    path = write("top.yaml", "extends: [base/one.yaml, base/two.yaml]\ndeep: {c: 3}\nlist: [9]\n")
    document = load_document(path)
    assert document.data["name"] == "two"
    assert document.data["deep"] == {"a": 1, "b": 2, "c": 3}
    assert document.data["list"] == [9]
    assert document.span("/deep/a").file.endswith("one.yaml")
    assert document.span("/deep/b").file.endswith("two.yaml")
    assert document.span("/deep/c").file.endswith("top.yaml")


def test_replace_stops_merging(write):
    write("base.yaml", "deep: {a: 1, b: 1}\n")
    path = write("top.yaml", "extends: base.yaml\ndeep: !replace {c: 3}\n")
    assert load_document(path).data["deep"] == {"c": 3}


def test_lists_merge_by_name_where_items_have_names(write):
    write("base.yaml", "steps: [{name: a, x: 1}, {name: b, x: 1}]\n")
    path = write("top.yaml", "extends: base.yaml\nsteps: [{name: b, x: 2}, {name: c}]\n")
    assert load_document(path).data["steps"] == [
        {"name": "a", "x": 1}, {"name": "b", "x": 2}, {"name": "c"},
    ]  # fmt: skip


def test_an_empty_list_replaces_one_with_names(write):
    write("base.yaml", "steps: [{name: a, x: 1}]\n")
    path = write("top.yaml", "extends: base.yaml\nsteps: []\n")
    assert load_document(path).data["steps"] == []


def test_later_qconfig_rules_come_first(write):
    write("base.yaml", "qconfig: {module_name_regex: {a: p, b: p}, object_type: [[X, p]]}\n")
    path = write(
        "top.yaml",
        "extends: base.yaml\nqconfig: {module_name_regex: {b: q, c: q}, object_type: {Y: q}}\n",
    )
    qconfig = load_document(path).data["qconfig"]
    assert list(qconfig["module_name_regex"].items()) == [("b", "q"), ("c", "q"), ("a", "p")]
    assert qconfig["object_type"] == [["Y", "q"], ["X", "p"]]


def test_diamonds_are_no_circle(write):
    write("root.yaml", "a: 1\n")
    write("left.yaml", "extends: root.yaml\nb: 1\n")
    write("right.yaml", "extends: root.yaml\nc: 1\n")
    path = write("top.yaml", "extends: [left.yaml, right.yaml]\n")
    assert {"a", "b", "c"} <= set(load_document(path).data)


def test_references_nest_index_and_keep_types(write):
    path = write(
        "a.yaml",
        "vars: {fast: 0, epochs: [14, 1], lr: 1e-4, name: n}\n"
        "a: ${vars.epochs.${vars.fast}}\nb: ${vars.epochs}\nc: run-${vars.name}-${vars.lr}\n"
        "d: $${vars.x}\n",
    )
    data = load_document(path).data
    assert (data["a"], data["b"], data["c"], data["d"]) == (14, [14, 1], "run-n-1e-4", "${vars.x}")
    assert load_document(path, ["vars.fast=1"]).data["a"] == 1


def test_what_a_reference_names_is_final(write, monkeypatch):
    monkeypatch.setenv("TRICKY", "${vars.secret}")
    path = write("a.yaml", 'vars: {secret: s, e: "$${vars.secret}"}\na: "${env:TRICKY}/x"\n'
                           'b: "${vars.e}"\nc: "x${vars.e}"\n')  # fmt: skip
    data = load_document(path).data
    assert data["a"] == "${vars.secret}/x"
    assert data["b"] == "${vars.secret}"
    assert data["c"] == "x${vars.secret}"


def test_a_referenced_value_knows_both_places(write):
    path = write("a.yaml", "vars: {n: three}\na: ${vars.n}\n")
    document = load_document(path)
    (found,) = document.resolve([QS203.diagnostic("m", at="/a")])
    assert (found.span.line, found.span.col) == (2, 4)
    assert (found.notes[0].span.line, found.notes[0].span.col) == (1, 11)


def test_every_bad_reference_is_reported_once(write):
    path = write("a.yaml", "a: ${vars.x}\nb: ${env:QATSPEC_NOT_SET}\nc: ${what}\n")
    assert [d.code for d in failure(path)] == ["QS302", "QS303", "QS304"]


@pytest.mark.parametrize("name", ["vars.batch_sise", "env:QATSPEC_NOT_SET"])
def test_a_missing_variable_is_told_once_with_its_other_references(write, name):
    text = f"vars: {{batch_size: 8}}\na: ${{{name}}}\nb: [x, '${{{name}}}']\nc: ${{vars.other}}\n"
    found, other = failure(path := write("a.yaml", text))
    assert (found.span.line, other.span.line) == (2, 4) and not other.notes
    assert [(n.text, n.span.line) for n in found.notes] == [("it is also referenced here", 3)]
    path.write_text(text + f"d: '${{{name}}}'\n")
    found, _ = failure(path)
    assert [(n.text, n.span.line) for n in found.notes] == [("2 further references, the next", 3)]


def test_a_misspelt_variable_is_corrected_at_every_reference(write):
    path = write("a.yaml", "vars: {batch_size: 8}\na: ${vars.batchsize}\nb: '${vars.batchsize}x'\n")
    (found,) = failure(path)
    assert edited(path.read_text(), found.fix.edits) == (
        "vars: {batch_size: 8}\na: ${vars.batch_size}\nb: '${vars.batch_size}x'\n"
    )


def test_a_variable_that_a_smoke_run_does_not_need(write, monkeypatch):
    monkeypatch.delenv("QATSPEC_NOT_SET", raising=False)
    root, smoke = "a: {root: '${env:QATSPEC_NOT_SET}/x'}\n", "smoke: {a: {root: made}}\n"
    (found,) = failure(path := write("a.yaml", root + smoke))
    assert found.code == "QS303" and f"`qatspec run {path} --smoke` needs none" in found.help
    assert load_document(path, smoke=True).data["a"] == {"root": "made"}
    for text in (root, root + "smoke: {b: 1}\n"):
        (found,) = failure(write("b.yaml", text))
        assert found.code == "QS303" and "--smoke" not in found.help


def test_a_failing_variable_is_reported_where_it_stands(write):
    path = write("a.yaml", "vars: {x: '${vars.gone}'}\na: ${vars.x}\nb: ${vars.x}\n")
    (found,) = failure(path)
    assert found.code == "QS302"
    assert found.span.line == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("vars: {a: '${vars.a}'}\n", "QS305"),
        ("vars: {a: '${vars.b.c}', b: '${vars.a}'}\n", "QS305"),
        ("vars: {a: [1]}\nb: x${vars.a}\n", "QS304"),
        ("vars: {a: [1]}\nb: ${vars.a.1}\n", "QS302"),
        ("a: ${vars.b\n", "QS304"),
        ("a: ${}\n", "QS304"),
        ("a: &a [*a]\n", "QS107"),
        ("a: *nobody\n", "QS102"),
        ("a: !thing {b: c}\n", "QS110"),
        ("? [a]\n: b\n", "QS110"),
        ("- a\n", "QS111"),
        ("a: @b\n", "QS102"),
        ("a: 'b\n", "QS102"),
    ],
)
def test_refusals(write, text, code):
    assert code in [d.code for d in failure(write("a.yaml", text))]


def test_doubling_texts_are_bounded(write):
    lines = [
        "v0: xxxxxxxxxxxxxxxx",
        *(f"v{i}: '${{vars.v{i - 1}}}${{vars.v{i - 1}}}'" for i in range(1, 40)),
    ]
    path = write("a.yaml", "vars:\n  " + "\n  ".join(lines) + "\n")
    assert failure(path)[0].code == "QS107"


def test_doubling_lists_are_bounded(write):
    lines = [
        "v0: [x, x]",
        *(f"v{i}: ['${{vars.v{i - 1}}}', '${{vars.v{i - 1}}}']" for i in range(1, 40)),
    ]
    path = write("a.yaml", "vars:\n  " + "\n  ".join(lines) + "\n")
    assert failure(path)[0].code in ("QS107", "QS108")


def test_deep_references_never_overflow(write):
    nested = "[" * 60 + "'${vars.v%d}'" + "]" * 60
    lines = ["v0: 1", *(f"v{i}: {nested % (i - 1)}" for i in range(1, 60))]
    path = write("a.yaml", "vars:\n  " + "\n  ".join(lines) + "\n")
    assert failure(path)[0].code == "QS108"


def test_overrides_are_typed_and_placed(write):
    path = write("a.yaml", "a: {b: 1, l: [1, 2]}\nvars: {x: 1}\n")
    document = load_document(path, ["a.b=[2, x]", "a.l.1=1e-3", "a.new.deep=null", "vars.x="])
    assert document.data["a"] == {"b": [2, "x"], "l": [1, 0.001], "new": {"deep": None}}
    assert document.data["vars"] == {"x": None}
    span = document.span("/a/b/1")
    assert (span.file, span.line, span.col) == ("--set", 1, 9)
    assert document.span("/a", key=True).file == str(path)
    assert document.texts["--set"].splitlines()[1] == "a.l.1=1e-3"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("a", "QS306"), ("=1", "QS306"), ("a..b=1", "QS306"), ("a.l.2=1", "QS306"),
        ("a.l.x=1", "QS306"), ("a.b.c=1", "QS306"), ("extends=x", "QS306"), ("a\nb=1", "QS306"),
        ("vars.y=1", "QS302"), ("a.b=[1", "QS102"), ("a.b={x: 1, x: 2}", "QS103"),
        ("a.b=\x07", "QS112"),
    ],
)  # fmt: skip
def test_bad_overrides(write, override, code):
    path = write("a.yaml", "a: {b: 1, l: [1, 2]}\nvars: {x: 1}\n")
    (found,) = failure(path, override)
    assert found.code == code
    assert found.span.file == "--set"


def test_an_extended_file_names_the_place_that_names_it(write):
    path = write("a.yaml", "extends:\n  - gone.yaml\n")
    (found,) = failure(path)
    assert (found.code, found.span.line, found.span.col) == ("QS101", 2, 5)


def test_the_texts_come_with_the_error(write):
    path = write("a.yaml", "a: [1\n")
    with pytest.raises(DiagnosticError) as error:
        load_document(path, ["b=1"])
    assert error.value.texts == {"--set": "b=1", str(path): "a: [1\n"}


def test_smoke_is_merged_over_the_rest_when_asked(write):
    write("base.yaml", "vars: {n: 8}\nsmoke: {vars: {n: 2}, a: {b: 0}}\n")
    text = "extends: base.yaml\na:\n  b: ${vars.n}\n  c: ${vars.n}\nsmoke: {d: 1}\n"
    path = write("top.yaml", text)
    plain, smoke = load_document(path).data, load_document(path, smoke=True).data
    assert (plain["a"], "d" in plain) == ({"b": 8, "c": 8}, False)
    assert (smoke["a"], smoke["d"]) == ({"b": 0, "c": 2}, 1)
    assert load_document(path, ["vars.n=5"], smoke=True).data["a"]["c"] == 5


@pytest.mark.parametrize("beside", ["", "\u202e", "\u2066x\u2069", "\u200f", "\xad"])
@pytest.mark.parametrize("control", ["\x07", "\x1b[", "\x00"])
def test_the_advice_for_a_control_character_works(write, control, beside):
    """The line it shows reads the same on a terminal; where none does, the place alone is named."""
    line = f"name: a{control}b{beside}"
    (found,) = failure(write("a.yaml", f"{line}\n"))
    assert found.code == "QS112"
    right = line.replace(control[0], "")
    if beside:
        assert found.help == "delete this one character"
    else:
        assert found.help == f"delete it: `{right}`"
    at = found.span.col - 1
    assert line[at] == control[0]
    assert load_document(write("a.yaml", line[:at] + line[at + 1 :])).data == {"name": right[6:]}

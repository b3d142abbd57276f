"""Who decides: both precedences, every kind, and thousands of rules."""

import pytest

from qatspec.spec import QConfigRules, Rule, decide
from qatspec.types import QConfig, QSpec

A, B, C, D, E = (QConfig(activation=QSpec(averaging_constant=c)) for c in (0.1, 0.2, 0.3, 0.4, 0.5))
CONV = ("torch.nn.Conv2d", "conv2d")


def rules(*items, precedence="object_type_first"):
    made = tuple(Rule(kind=k, key=key, value=v) for k, key, v in items)
    return QConfigRules(rules=made, precedence=precedence)


ALL = (
    ("global", "", A),
    ("object_type", "torch.nn.Conv2d", B),
    ("module_name_regex", r"layer\d", C),
    ("module_name", "layer1", D),
)


def kinds(match):
    return [r.kind for r in (match.winner, *match.losers)]


def test_the_tutorials_order():
    match = decide(rules(*ALL), module="layer1.conv", ops=CONV)
    assert kinds(match) == ["object_type", "module_name_regex", "module_name", "global"]
    assert match.qconfig == B
    assert match.shadowed


def test_torchs_order():
    found = rules(*ALL, precedence="module_name_first")
    match = decide(found, module="layer1.conv", ops=CONV)
    assert kinds(match) == ["module_name", "module_name_regex", "object_type", "global"]
    assert match.qconfig == D
    assert match.shadowed


def test_equal_values_are_not_shadowed():
    found = rules(("object_type", "conv2d", A), ("module_name", "x", A))
    assert not decide(found, module="x", ops=CONV).shadowed


def test_values_that_are_equal_but_not_one_object_are_not_shadowed():
    same = QConfig(activation=QSpec(averaging_constant=0.1))
    assert same is not A
    match = decide(
        rules(("object_type", "conv2d", A), ("module_name", "x", same)), module="x", ops=CONV
    )
    assert kinds(match) == ["object_type", "module_name"]
    assert not match.shadowed


@pytest.mark.parametrize("module", ["stem", "body.conv", "a"])
def test_a_regex_that_is_the_path_itself_matches(module):
    """Its literal beginning is as long as the path, the longest that is looked up."""
    match = decide(rules(("module_name_regex", module, A)), module=module, ops=CONV)
    assert kinds(match) == ["module_name_regex"]


def test_a_rule_for_one_call_needs_the_calls_number():
    found = rules(("module_name_object_type_order", ("m", "conv2d", 0), A), ("global", "", B))
    assert decide(found, module="m", ops=CONV).qconfig == B
    assert decide(found, module="m", ops=CONV, index=0).qconfig == A
    assert decide(found, module="m", ops=CONV, index=1).qconfig == B


def test_nothing_matches():
    match = decide(rules(("module_name", "other", A)), module="layer1", ops=CONV)
    assert match.winner is None
    assert match.qconfig is None
    assert match.losers == ()


def test_null_wins_too():
    match = decide(rules(("global", "", A), ("module_name", "m", None)), module="m.c", ops=CONV)
    assert match.winner.kind == "module_name"
    assert match.qconfig is None


@pytest.mark.parametrize(
    ("module", "value"),
    [("a", B), ("a.b", C), ("a.b.c.d", C), ("a.bc", B), ("ab", A), ("", A)],
)
def test_longest_prefix_by_whole_names(module, value):
    found = rules(("global", "", A), ("module_name", "a", B), ("module_name", "a.b", C))
    assert decide(found, module=module, ops=()).qconfig == value


def test_first_regex_from_the_start_of_the_name():
    found = rules(("module_name_regex", "b", A), ("module_name_regex", "a", B),
                  ("module_name_regex", "a.b", C))  # fmt: skip
    assert decide(found, module="a.b", ops=()).qconfig == B


def test_types_are_exact():
    found = rules(("object_type", "torch.nn.Conv", A), ("object_type", "conv2d", B))
    assert decide(found, module="", ops=CONV).qconfig == B


def test_one_call_of_an_op():
    found = rules(("object_type", "conv2d", A),
                  ("module_name_object_type_order", ("block", "conv2d", 1), B))  # fmt: skip
    assert decide(found, module="block.conv", ops=CONV, index=1).qconfig == B
    assert decide(found, module="block", ops=CONV, index=1).qconfig == B
    assert decide(found, module="block.conv", ops=CONV, index=0).qconfig == A
    assert decide(found, module="block.conv", ops=CONV).qconfig == A


def test_an_unrelated_rule_changes_nothing():
    plain = decide(rules(*ALL), module="layer1.conv", ops=CONV)
    more = decide(rules(*ALL, ("module_name", "elsewhere", E)), module="layer1.conv", ops=CONV)
    assert plain == more


class Counted(str):
    """A name that counts what it is compared with."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_a_thousand_rules_are_looked_up_not_tried_one_by_one():
    names = [f"stage{i % 7}.block{i // 7}.conv" for i in range(1000)]
    found = rules(("global", "", A), *(("module_name", Counted(n), B) for n in names))
    decided = [decide(found, module=n, ops=CONV) for n in names]
    assert all(m.qconfig == B for m in decided)
    assert 0 < Counted.compared < 20_000  # one by one: a million

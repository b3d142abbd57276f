"""Rules against ops: what matches nothing, what contends, and that thousands of them are cheap."""

import re

import pytest

from qatspec.spec import Call, QConfigRules, Rule, check_rules, decide
from qatspec.spec.regex import literal_prefix
from qatspec.types import QConfig, QSpec
from tests.bench import rules as bench

INT8, INT16 = QConfig(), QConfig(activation=QSpec(dtype="qint16"))


def call(module, *names, index=0):
    return Call(node=f":{module}", unit="", entry="", module=module, names=names, index=index)


def rules(*given):
    return QConfigRules(rules=tuple(Rule(kind=k, key=key, value=v) for k, key, v in given))


CALLS = (call("head.cls.0", "conv2d", "torch.nn.Conv2d"), call("head.relu", "relu"))


@pytest.mark.parametrize(
    ("kind", "key", "matches"),
    [
        ("global", "", True),
        ("object_type", "torch.nn.Conv2d", True),
        ("object_type", "torch.nn.Linear", False),
        ("module_name", "head.cls", True),
        ("module_name", "head.cl", False),
        ("module_name_regex", "head", True),
        ("module_name_regex", r"head\.re", True),
        ("module_name_regex", r".*\.0$", True),
        ("module_name_regex", "relu", False),
        ("module_name_regex", "(?i)HEAD", True),
        ("module_name_object_type_order", ("head.cls", "conv2d", 0), True),
        ("module_name_object_type_order", ("head.cls", "conv2d", 1), False),
    ],
)
def test_what_matches(kind, key, matches):
    found = check_rules([(rules((kind, key, INT8)), CALLS)])
    assert [d.code for d in found] == ([] if matches else ["QS312"])


def test_a_rule_behind_another_of_its_kind_is_not_unmatched():
    both = rules(("module_name_regex", "head.*", INT8), ("module_name_regex", "head.cls.*", INT16))
    assert check_rules([(both, CALLS)]) == []


def test_what_may_have_been_meant():
    (found,) = check_rules([(rules(("module_name", "haed.cls", INT8)), CALLS)])
    assert found.help.startswith("did you mean `head.cls`?")


def test_the_first_regex_wins_whatever_it_begins_with():
    ordered = rules(
        ("module_name_regex", ".*0", INT16),
        ("module_name_regex", "head", INT8),
        ("module_name_regex", "head.cls", INT16),
    )
    assert decide(ordered, module="head.cls.0", ops=()).winner.key == ".*0"
    assert decide(ordered, module="head.cls.1", ops=()).winner.key == "head"
    assert decide(ordered, module="neck", ops=()).winner is None


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("head", "head"), (r"head\.cls[0-9]", "head.cls"), ("^head", "head"), ("heads?", "head"),
     ("a|b", ""), ("(head)", ""), ("(?i)head", ""), ("", ""), (".*", "")],
)  # fmt: skip
def test_literal_prefix(pattern, text):
    assert literal_prefix(pattern) == text


@pytest.mark.parametrize("what", bench.KEYS)
def test_thousands_of_rules(what, monkeypatch):
    """A pattern is tried on the modules that begin as it does, not on every one."""
    tried, match = [], re.match
    monkeypatch.setattr(re, "match", lambda *given: (tried.append(given), match(*given))[1])
    _, found = bench.seconds(what, 500)
    assert found == (500 if "nothing" in what else 0)
    assert len(tried) == (500 if what == "regexes" else 0)

"""Regexes that may hang are refused; those that people write are not."""

import pytest

from qatspec.diag import DiagnosticError
from qatspec.spec.regex import check_regex


@pytest.mark.parametrize(
    "pattern",
    [
        r"head\.cls_convs\.[0-9]+", "head.*", ".*", r"(conv|bn)\d", r"(conv|bn)*x", "a{1,3}",
        r"backbone\.layer[1-4]\..*\.conv\d+", r"(?:a|b)+", r"^neck", r"(ab)+", "", "(?i)head",
        r"(?!stem).*", r"a.*b.*c", "([ab]|a)*c",
    ],
)  # fmt: skip
def test_accepted(pattern):
    check_regex(pattern, "/x")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+", "(a*)*b", "(a|a)*b", "(a|ab)*c", "(a|)*b", "(.*)*", "((a+)b?)+", "(a?){1,50}",
        ".*.*.*.*x", r"(a+)\1+", "(?:(?:a+)b)*", "a" * 2000, r"(?=(a+)+)b",
    ],
)  # fmt: skip
def test_hostile(pattern):
    with pytest.raises(DiagnosticError) as error:
        check_regex(pattern, "/x")
    (found,) = error.value.diagnostics
    assert (found.code, found.at) == ("QS311", "/x")


@pytest.mark.parametrize("pattern", ["(", "[", "a{3,1}", "*a", "(?P<n>a)(?P<n>b)", "(" * 200])
def test_invalid(pattern):
    with pytest.raises(DiagnosticError) as error:
        check_regex(pattern, "/x")
    assert error.value.diagnostics[0].code == "QS310"

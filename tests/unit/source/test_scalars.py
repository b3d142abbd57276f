"""YAML 1.2 core scalars: what YAML 1.1 readers get wrong."""

import pytest

from qatspec.source.scalars import resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-0.0", -0.0), ("+1", 1),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("on", "on"), ("yes", "yes"), ("NO", "NO"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("1:30", "1:30"), ("1_000", "1_000"), ("2026-11-23", "2026-11-23"), ("0b1", "0b1"),
        ("1e", "1e"), (".", "."), ("-", "-"), ("nullable", "nullable"), ("tRue", "tRue"),
    ],
)  # fmt: skip
def test_core_schema(text, value):
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "-1e400", "9" * 401,
                                  "9" * 309, "0x1" + 300 * "0"])  # fmt: skip
def test_not_finite(text):
    with pytest.raises(OverflowError):
        resolve(text)

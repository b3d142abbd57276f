"""Did-you-mean."""

import pytest

from qatspec.diag.words import nearest, quote_list, suggest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("quantise_input", "quantize_input"), ("QuantizeInput", "quantize_input"),
        ("quantize-input", "quantize_input"), ("lr", "lr"), ("rl", "lr"), ("xyzzy", None),
    ],
)  # fmt: skip
def test_nearest(word, expected):
    assert nearest(word, ["quantize_input", "lr", "epochs"]) == expected


def test_sure_takes_slips_only():
    assert nearest("resnet", ["net"]) == "net"
    assert nearest("resnet", ["net"], sure=True) is None
    assert nearest("rsnet", ["resnet"], sure=True) == "resnet"


def test_suggest():
    assert suggest("epoch", ["epochs"]) == "did you mean `epochs`?"
    assert suggest("zzz", ["a", "b"]) == "known: `a`, `b`"
    assert suggest("zzz", []) is None
    assert quote_list([str(i) for i in range(10)]).endswith("`7` and 2 more")

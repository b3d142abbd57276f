"""The dump is stable and says what a person needs."""

from __future__ import annotations

from qatspec.program import dump

EXPECTED = """\
program small march bayes (16 bits, half_up)
in   %image: int8(2, 4, 4) NCHW scale 7.8125e-03
     %acc: int32(3, 4, 4) = conv(%image, int8(3, 2, 3, 3)#6803a3b6, int32[5, -7, 100]) \
dilation=(1, 1) groups=1 padding=(1, 1, 1, 1) stride=(1, 1) scale 1.e-04..x3  # stem.conv net.py:7
     %q: int8(3, 4, 4) = requant(%acc, int64[40000, 50000, 60000], int64[22]) axis=1 dtype=int8 \
high=127 low=0 rounding=half_up scale 1.e-02
     %lut: int8(3, 4, 4) = lut(%q, int8(256)#67a41ce4) dtype=int8 scale 5.e-01
out  %acc: int32(3, 4, 4) NCHW scale 1.e-04..x3 along 1
out  %lut: int8(3, 4, 4) NCHW scale 5.e-01
"""


def test_dump(small):
    assert dump(small) == EXPECTED

"""What every random module begins with: the helpers that its statements call."""

# ruff: noqa: F401 - the statements use the imports
import functools
import math
from collections import OrderedDict, namedtuple
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

Pair = namedtuple("Pair", "first second")


class Maps(NamedTuple):
    near: torch.Tensor
    far: torch.Tensor


def crop(x, like):
    return x[:, :, : like.shape[2], : like.shape[3]]


def pad_to_multiple(x, multiple=4, value=0.0):
    h, w = x.shape[-2:]
    right, bottom = (multiple - w % multiple) % multiple, (multiple - h % multiple) % multiple
    if right == 0 and bottom == 0:
        return x
    return F.pad(x, (0, right, 0, bottom), value=value)


def blend(a, b, alpha=0.25, *, flip=False):
    if flip:
        a, b = b, a
    return a * alpha + b * (1 - alpha)


def squash(x, kind="relu", **options):
    kinds = {"relu": F.relu, "tanh": torch.tanh, "leaky": F.leaky_relu}
    return kinds[kind](x, **options)


def shrink(x, least=4):
    if min(x.shape[2:]) < least:
        return x
    return F.max_pool2d(x, 2)


def coordinates(x):
    n, _, h, w = x.shape
    ys = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
    xs = torch.arange(w).float().div(max(w - 1, 1)).view(1, 1, 1, w).expand(n, 1, h, w)
    return torch.cat([x, ys, xs], dim=1)


def shuffle(x, groups):
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Block(nn.Module):
    expansion = 2

    def __init__(self, c, act=None, residual=True):
        super().__init__()
        self.a = nn.Conv2d(c, c * self.expansion, 1)
        self.b = nn.Conv2d(c * self.expansion, c, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c)
        self.act = act or nn.ReLU(inplace=True)
        self.residual = residual

    @property
    def name(self):
        return "residual" if self.residual else "plain"

    def forward(self, x, skip=None, scale=1.0):
        y = self.norm(self.b(self.act(self.a(x))))
        if skip is not None:
            y = y + skip
        if self.name == "residual":
            y += x
        return y * scale if scale != 1.0 else y


class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Linear(c, c)

    def forward(self, x):
        n, c, *_ = x.shape
        g = torch.sigmoid(self.fc(x.mean(dim=(2, 3))))
        return x * g.view(n, c, 1, 1)


class Heads(nn.Module):
    def __init__(self, d, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (d // heads) ** -0.5
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        n, length, d = x.shape
        parts = self.qkv(x).reshape(n, length, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        p = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.out((p @ v).transpose(1, 2).reshape(n, length, d))


class Base(nn.Module):
    gain = 0.5

    @property
    def half(self):
        return self.gain * 0.5

    @staticmethod
    def halves(x):
        c = x.size(1) // 2
        return x[:, :c], x[:, c:]

    def both(self, *xs, weight=1.0):
        total = xs[0]
        for x in xs[1:]:
            total = total + weight * x
        return total

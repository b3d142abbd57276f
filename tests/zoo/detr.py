"""DETR, Carion et al. 2020, arXiv:2005.12872: a transformer from feature map to a set of boxes;
with the learned positions of its appendix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.features import ResNetFeatures
from tests.zoo.zoo import Net, Published


class _FrozenBatchNorm2d(nn.Module):
    """Fixed statistics, fixed scale and shift: buffers, no parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            False, 0.0, 1e-5, False,
        )  # fmt: skip


def _freeze(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _FrozenBatchNorm2d(child.num_features))
        else:
            _freeze(child)


class _Attention(nn.Module):
    """Several heads, folded into the batch."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, channels // heads
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.project = nn.Linear(channels, channels)

    def _split(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        x = torch.reshape(x, (n, tokens, self.heads, self.size))
        return x.transpose(1, 2).flatten(0, 1)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            self._split(f(x))
            for f, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        share = F.softmax(torch.true_divide(q.bmm(k.transpose(1, 2)), self.size**0.5), dim=-1)
        y = share.matmul(v).unflatten(0, (-1, self.heads)).transpose(1, 2)
        return self.project(y.flatten(2))


class _Layer(nn.Module):
    """Self-attention; in the decoder, attention to the picture; two linear layers."""

    def __init__(self, channels: int, heads: int, hidden: int, decoder: bool) -> None:
        super().__init__()
        self.own = _Attention(channels, heads)
        self.other = _Attention(channels, heads) if decoder else None
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3 if decoder else 2))
        self.first, self.second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, x: Tensor, places: Tensor, memory: Tensor | None = None, where: Tensor | None = None
    ) -> Tensor:
        turned = x + places
        x = self.norms[0](x + self.dropout(self.own(turned, turned, x)))
        if self.other is not None:
            seen = self.other(x + places, memory + where, memory)
            x = self.norms[1](x + self.dropout(seen))
        y = self.second(self.dropout(F.relu(self.first(x))))
        return self.norms[-1](x + self.dropout(y))


class DETR(nn.Module):
    """Queries are learned; each becomes a box and its class."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 91, queries: int = 100,
        cells: int = 50, heads: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body = ResNetFeatures(50, width, depth)
        _freeze(self.body)
        channels, hidden, count = scaled(256, width), scaled(2048, width), repeats(6, depth)
        self.into = nn.Conv2d(self.body.channels[3], channels, 1)
        self.rows = nn.Embedding(cells, channels // 2)
        self.columns = nn.Parameter(torch.rand(cells, channels // 2))
        self.queries = nn.Embedding(queries, channels)
        self.register_buffer("numbers", torch.arange(max(cells, queries)))
        self.encoder = nn.ModuleList(_Layer(channels, heads, hidden, False) for _ in range(count))
        self.decoder = nn.ModuleList(_Layer(channels, heads, hidden, True) for _ in range(count))
        self.norm = nn.LayerNorm(channels)
        self.label = nn.Linear(channels, classes + 1)
        self.box = nn.ModuleList(nn.Linear(channels, n) for n in (channels, channels, 4))
        self.count = queries

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.into(self.body(x)[-1])
        n, _, h, w = y.shape
        cells = torch.arange(h * w, device=y.device)
        rows = self.rows(cells.floor_divide(w))
        columns = F.embedding(cells - cells.floor_divide(w) * w, self.columns)
        places = torch.cat((columns, rows), dim=-1).unsqueeze(0)
        memory = y.flatten(2).permute(0, 2, 1)
        for layer in self.encoder:
            memory = layer(memory, places)
        queries = torch.embedding(self.queries.weight, self.numbers[: self.count])
        queries = torch.unsqueeze(queries, 0).expand(n, -1, -1)
        x = queries - queries
        for layer in self.decoder:
            x = layer(x, queries, memory, places)
        x = self.norm(x)
        box = x
        for linear in self.box[:2]:
            box = linear(box).relu()
        return {"labels": self.label(x), "boxes": torch.sigmoid(self.box[2](box))}


NETS = (
    Net(
        "detr_r50", DETR, {},
        {"width": 0.125, "depth": 0.2, "classes": 3, "queries": 5, "cells": 4, "heads": 2},
        (64, 64),
        Published(41_520_000, None, (800, 800),
                  "github.com/facebookresearch/detr: 41.5 M with all of the backbone"),
    ),
)  # fmt: skip

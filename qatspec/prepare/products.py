"""Which layers of a prepared model may multiply in a reduced precision."""

from __future__ import annotations

import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.graph.grids import fake_quant_before
from qatspec.graph.prepared import Prepared
from qatspec.quant.modules import QuantOp
from qatspec.quant.products import Products


def reduce_products(prepared: Prepared, dtype: torch.dtype | None) -> None:
    """Let quantized layers of a prepared model multiply in `dtype` while it trains; None: in
    float32. Layers whose input is on no grid, or on several, stay in float32."""
    grids: dict[QuantOp, set[object]] = {}
    for path in prepared.modules:
        root = prepared.model.get_submodule(path)
        if not isinstance(root, fx.GraphModule):
            continue
        context = GraphContext(root, root.graph, prepared.march)
        for node in root.graph.nodes:
            module = context.module(node)
            if isinstance(module, QuantOp):
                grids.setdefault(module, set()).add(fake_quant_before(node.args[0], context))
    for module, found_grids in grids.items():
        source = found_grids.pop() if len(found_grids) == 1 else None
        fits = dtype is not None and source is not None
        module.products = Products(dtype, source) if fits else None  # type: ignore[arg-type]

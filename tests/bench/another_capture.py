"""What `torch.export` captures of the models that `prepare` cannot trace, and what it keeps.

    python tests/bench/another_capture.py                           # the idioms of this file
    python tests/bench/another_capture.py --state models.json       # and models of other_models.py

For each model: whether `prepare` accepts it, and whether `torch.export.export` does, in evaluation
and in training, for a batch that is open. Of what is exported: the share of calls of ATen ops that
have the path of a submodule and a line of the model's file, how many calls there are for one of
`prepare`, and whether batch norms and dropouts are the same ops in both modes. The idioms are those
at which tracing stops: each is a small network that somebody could have written.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

#: Ops whose behaviour is fixed to the mode in which a model was exported.
MODAL = ("batch_norm", "dropout")


class Net(nn.Module):
    """A small network around a function of its features."""

    def __init__(self, compute: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(8, 4, 1))
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        self.compute = compute

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, self.stem(x))


# -- control by the numbers in tensors ------------------------------------------------------------


def if_largest(net: Net, x: Tensor) -> Tensor:
    if x.max() > 100:
        x = x / x.max()
    return net.head(x)


def assert_finite(net: Net, x: Tensor) -> Tensor:
    assert not torch.isnan(x).any()
    return net.head(x)


def early_exit(net: Net, x: Tensor) -> Tensor:
    for block in net.blocks:
        x = x + block(x)
        if x.abs().mean() < 1e-3:
            break
    return net.head(x)


def loop_until(net: Net, x: Tensor) -> Tensor:
    while x.mean() > 10:
        x = x * 0.5
    return net.head(x)


def chosen_expert(net: Net, x: Tensor) -> Tensor:
    expert = int(x.mean((0, 2, 3)).argmax()) % 3
    return net.head(net.blocks[expert](x))


def scale_item(net: Net, x: Tensor) -> Tensor:
    return net.head(x * float(x.abs().max().item()))


def number_from_mask(net: Net, x: Tensor) -> Tensor:
    return net.head(x) / int((x > 0).sum())


# -- sizes that follow the numbers ----------------------------------------------------------------


def boolean_rows(net: Net, x: Tensor) -> Tensor:
    y = net.head(x).flatten(2)
    return y.permute(0, 2, 1)[y.amax(1) > 0.5]


def nonzero_places(net: Net, x: Tensor) -> Tensor:
    return (net.head(x) > 0).nonzero()


def unique_labels(net: Net, x: Tensor) -> Tensor:
    return net.head(x).argmax(1).unique()


# -- post-processing in evaluation


def suppressed(net: Net, x: Tensor) -> Any:
    y = net.head(x)
    if net.training:
        return y
    results = []
    for boxes in y.flatten(2).permute(0, 2, 1):
        kept = []
        for i in boxes[:, 0].argsort(descending=True)[:8].tolist():
            if all((boxes[i] - boxes[j]).abs().sum() > 0.5 for j in kept):
                kept.append(i)
        results.append(boxes[kept])
    return results


def boxes_over(net: Net, x: Tensor) -> Any:
    y = net.head(x)
    if net.training:
        return y
    flat = y.flatten(2).permute(0, 2, 1)
    return [boxes[boxes[:, 0] > 0] for boxes in flat]


def numpy_tail(net: Net, x: Tensor) -> Any:
    y = net.head(x)
    return y if net.training else np.clip(y.detach().cpu().numpy(), 0, 1)


def numpy_inside(net: Net, x: Tensor) -> Tensor:
    return net.head(x * torch.from_numpy(np.asarray([0.5], np.float32)) * float(np.mean(x.shape)))


def numpy_of_features(net: Net, x: Tensor) -> Tensor:
    return net.head(x * float(x.detach().cpu().numpy().std()))


# -- what Python does beside tensors --------------------------------------------------------------


def counted(net: Net, x: Tensor) -> Tensor:
    net.calls = getattr(net, "calls", 0) + 1
    return net.head(x)


def kept_features(net: Net, x: Tensor) -> Tensor:
    before = getattr(net, "features", None)
    net.features = x
    return net.head(x if before is None else x + before)


def printed(net: Net, x: Tensor) -> Tensor:
    print("features", x.shape, float(x.mean()), file=sys.stderr)
    return net.head(x)


def caught(net: Net, x: Tensor) -> Tensor:
    try:
        return net.head(x.view(-1, 7))
    except RuntimeError:
        return net.head(x)


def shuffled(net: Net, x: Tensor) -> Tensor:
    return net.head(x[:, np.random.default_rng(0).permutation(8)])


def formatted_key(net: Net, x: Tensor) -> Any:
    return {f"stride{x.shape[-1] // 4}": net.head(x)}


def batch_in_python(net: Net, x: Tensor) -> Tensor:
    return torch.stack([net.head(image[None])[0] for image in x])


IDIOMS = (
    if_largest, assert_finite, early_exit, loop_until, chosen_expert, scale_item, number_from_mask,
    boolean_rows, nonzero_places, unique_labels,
    suppressed, boxes_over, numpy_tail, numpy_inside, numpy_of_features,
    counted, kept_features, printed, caught, shuffled, formatted_key, batch_in_python,
)  # fmt: skip


# -- the study ------------------------------------------------------------------------------------


def traced(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """What `prepare` says, and how many calls its graph has."""
    from qatspec.api import DiagnosticError, QConfig, prepare

    try:
        prepared = prepare(model, (x,), qconfig=QConfig())
    except DiagnosticError as error:
        return {"fx": " ".join(sorted({d.code for d in error.diagnostics}))}
    calls = sum(
        n.op.startswith("call_") and "fake" not in str(n.target) and "post_process" not in n.name
        for n in prepared.model.graph.nodes
    )
    return {"fx": "ok", "fx calls": calls}


def exported(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """What torch.export captures in each mode, and what the graph of evaluation keeps."""
    found: dict[str, Any] = {}
    graphs = {}
    state = copy.deepcopy(model.state_dict())
    batch = torch.export.Dim("batch", min=2, max=64)
    for mode in ("eval", "train"):
        model.train(mode == "train")
        for shapes in (({0: batch},), None):
            try:
                program = torch.export.export(model, (x.clone(),), dynamic_shapes=shapes)
            except Exception as error:  # noqa: BLE001  what the study counts
                found[mode] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}"
                continue
            graphs[mode] = program.graph
            if mode == "eval":
                found["same in a second call"] = _agree(program.module(), model, state, x)
            found[mode] = "ok" if shapes else "fixed batch"
            break
    if "eval" in graphs:
        calls = [n for n in graphs["eval"].nodes if n.op == "call_function"]
        ops = [n for n in calls if str(n.target).startswith("aten")]
        inside = [n for n in ops if n.meta.get("nn_module_stack")]
        lines = [n for n in ops if _has_line(str(n.meta.get("stack_trace")))]
        found.update(calls=len(ops), paths=len(inside), lines=len(lines))
    if len(graphs) == 2:
        modal = [
            sorted(str(n.target) for n in graph.nodes if any(op in str(n.target) for op in MODAL))
            for graph in (graphs["eval"], graphs["train"])
        ]
        found["same ops in both modes"] = modal[0] == modal[1]
    return found


def _agree(program: nn.Module, model: nn.Module, state: dict[str, Tensor], x: Tensor) -> bool:
    """Whether two calls of the exported program give what two calls of a fresh model give."""
    if not isinstance(model, Net):
        return True
    fresh = Net(model.compute).eval()
    fresh.load_state_dict(state)
    try:
        pairs = [
            zip(tree_leaves(program(x.clone())), tree_leaves(fresh(x.clone())), strict=True)
            for _ in range(2)
        ]
        return all(torch.allclose(a, b, atol=1e-5) for pair in pairs for a, b in pair)
    except RuntimeError:
        return False


def _has_line(trace: str) -> bool:
    """Whether a stack trace names a file outside of torch."""
    return any(
        'File "' in line and "/torch/" not in line.replace("site-packages/torch/", "/torch/")
        for line in trace.splitlines()
    )


def models(state: Path | None) -> Iterator[tuple[str, nn.Module, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for idiom in IDIOMS:
        torch.manual_seed(0)
        yield idiom.__name__, Net(idiom).eval(), torch.randn(4, 3, 8, 8, generator=generator)
    if state is None:
        return
    import other_models

    other_models.declare_missing_ops()
    for found in json.loads(state.read_text())["results"].values():
        if found["result"] == "refused":
            yield found["model"], *other_models.build(found["model"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, help="of other_models.py: add the refused ones")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name, model, x in models(options.state):
        row = {"model": name, **traced(model, x), **exported(model, x)}
        rows.append(row)
        print(*(f"{key}={value}" for key, value in row.items()), sep="; ", flush=True)
    refused = [row for row in rows if row["fx"] != "ok"]
    gained = [row for row in refused if row.get("eval") == "ok" and row.get("train") == "ok"]
    both = [row for row in rows if "fx calls" in row and "calls" in row]
    total = collections.Counter()
    for row in rows:
        total.update({key: row.get(key, 0) for key in ("calls", "paths", "lines")})
    print(f"models: {len(rows)}; refused by prepare: {len(refused)}")
    print("of these, exported in both modes with an open batch:", [r["model"] for r in gained])
    print("of those, other numbers in a second call:", [
        r["model"] for r in gained if not r["same in a second call"]
    ])  # fmt: skip
    print("accepted by prepare, not exported in both modes with an open batch:", [
        r["model"] for r in rows if r["fx"] == "ok" and (r["eval"], r["train"]) != ("ok", "ok")
    ])  # fmt: skip
    print(f"calls {total['calls']}: with a path {total['paths']}, with a line {total['lines']}")
    print("calls for those of prepare:", sum(r["calls"] for r in both), "for",
          sum(r["fx calls"] for r in both))  # fmt: skip
    print("other ops in training than in evaluation:",
          [r["model"] for r in rows if r.get("same ops in both modes") is False])  # fmt: skip


if __name__ == "__main__":
    main()

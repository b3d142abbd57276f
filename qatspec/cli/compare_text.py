"""What `qatspec compare` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from qatspec.cli.options import short_location, spec_location

if TYPE_CHECKING:
    from qatspec.analyze import Comparison, LayerError, Noise, OnnxError, OutputError, Steps
    from qatspec.spec import Spec

#: layers that the list of the worst holds
_WORST = 5


class ComparisonText:
    """Prints a comparison, at most 100 columns wide."""

    def __init__(self, console: Console, spec: Spec, comparison: Comparison) -> None:
        self.console, self.spec, self.comparison = console, spec, comparison

    def print(self, stage: str, files: Mapping[str, list[OnnxError]]) -> None:
        """Every table. files: name -> layers of the QAT ONNX, run so."""
        comparison, spec, console = self.comparison, self.spec, self.console
        console.print(
            f"{spec.name}: stage {stage}, march {spec.march}, "
            f"{comparison.images} images of data.val\n\n"
            "Signal to noise in dB. fake: fake-quant against float, int: integers against float,\n"
            "f~int: integers against fake-quant, lost: loss of int against the worst input layer."
        )
        console.print(self._noise(comparison.layers))
        console.print(
            "\nDistance in LSB between fake-quant and integers, share of the elements in percent:\n"
            "given equal inputs | end to end."
        )
        console.print(self._steps())
        console.print()
        self._departure()
        self._growth()
        console.print(f"\nThe {min(_WORST, len(comparison.layers))} worst layers in integers:")
        console.print(self._worst())
        if comparison.outputs:
            console.print("\nOutputs. Difference: |integers - fake-quant|, dequantized.")
            console.print(self._outputs())
        for name, errors in files.items():
            self._file(name, errors)

    def _noise(self, layers: Sequence[LayerError]) -> Table:
        table = _table("layer", "dtype", "fake", "int", "f~int", "lost", "rule")
        for layer in layers:
            table.add_row(
                layer.node,
                layer.dtype,
                *map(_db, (layer.fake_quant, layer.integer, layer.between)),
                f"{layer.lost:.1f}" if layer.lost else "",
                self._rule(layer),
            )
        return table

    def _steps(self) -> Table:
        head = ("0", "1", "2", ">2", "max")
        table = _table("layer", *head, "|", *head)
        for layer in self.comparison.layers:
            table.add_row(layer.node, *_shares(layer.local), "|", *_shares(layer.end_to_end))
        return table

    def _departure(self) -> None:
        layer = self.comparison.departure
        if layer is None:
            self.console.print(
                f"given equal inputs: all {len(self.comparison.layers)} layers are within their "
                "bound"
            )
            return
        self.console.print(
            f"given equal inputs: {layer.node} is the first layer outside its bound, by "
            f"{layer.local.largest} steps where {layer.bound} are allowed"
        )

    def _growth(self) -> None:
        layer = self.comparison.growth
        if layer is None:
            self.console.print("error growth: no layer adds more than one bit (6.0 dB)")
            return
        self.console.print(
            f"error grows first at {layer.node}: {layer.integer.db:.1f} dB, {layer.lost:.1f} dB "
            f"below its inputs\n  {self._rule(layer)}  {layer.source}"
        )

    def _worst(self) -> Table:
        table = _table("layer", "int", "lost", "rule", "model code", right=3)
        for layer in self.comparison.worst[:_WORST]:
            lost = f"{layer.lost:.1f}" if layer.lost else ""
            table.add_row(
                layer.node,
                _db(layer.integer),
                lost,
                self._rule(layer),
                short_location(layer.source),
            )
        return table

    def _outputs(self) -> Table:
        table = _table("output", "dtype", "fake", "int", "f~int", "largest", "mean")
        for output in self.comparison.outputs:
            table.add_row(
                output.name,
                output.dtype,
                *map(_db, (output.fake_quant, output.integer, output.between)),
                f"{output.largest:.4g}",
                f"{mean(output):.4g}",
            )
        return table

    def _file(self, name: str, errors: Sequence[OnnxError]) -> None:
        first = next((e for e in errors if e.steps.largest), None)
        apart = "no layer differs from the fake-quant model"
        if first is not None:
            share = 100 * (1 - first.steps.shares[0])
            apart = (
                f"the first layer that differs is {first.node}, in {share:.3g} % of its elements"
            )
        self.console.print(f"\nQAT ONNX in onnxruntime, {name}:\n  {apart}")

    def _rule(self, layer: LayerError) -> str:
        return short_location(spec_location(self.spec, layer.rule)) if layer.rule else "-"


def _table(*names: str, right: int | None = None) -> Table:
    """Columns of figures to the right, the first to the left; right: how many of those."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(names):
        words = i == 0 or name in ("dtype", "rule") or (right is not None and i >= right)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _shares(steps: Steps) -> tuple[str, ...]:
    return (*map(_percent, steps.shares), str(steps.largest))


def _percent(share: float) -> str:
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return f"{100 * share:.2f}" if share >= 5e-5 else "<0.01"


def _db(noise: Noise) -> str:
    return "exact" if noise.db == math.inf else f"{noise.db:.1f}"


def mean(output: OutputError) -> float:
    """Mean of |fake-quant - integer| over the elements of an output."""
    return output.total / max(output.count, 1)

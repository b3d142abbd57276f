"""What `qatspec compare` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from qatspec.cli.columns import Column, print_columns
from qatspec.cli.options import short_location, spec_location

if TYPE_CHECKING:
    from qatspec.analyze import Comparison, LayerError, Noise, OnnxError, OutputError, Steps
    from qatspec.spec import Spec

#: layers that the list of the worst holds
_WORST = 5


class ComparisonText:
    """Prints a comparison. Lines of the spec are numbered, and listed below the first table.

    candidate: its name, where a stage is run in several variants."""

    def __init__(
        self, console: Console, spec: Spec, comparison: Comparison, candidate: str | None = None
    ) -> None:
        self.candidate = candidate
        self.console, self.spec, self.comparison = console, spec, comparison
        self.rules = list(dict.fromkeys(e.rule for e in comparison.layers if e.rule))

    def print(self, stage: str, files: Mapping[str, list[OnnxError]]) -> None:
        """Every table. files: name -> layers of the QAT ONNX, run so."""
        comparison, spec, console = self.comparison, self.spec, self.console
        variant = f"candidate {self.candidate}, " if self.candidate else ""
        console.print(
            f"{spec.name}: stage {stage}, {variant}march {spec.march}, "
            f"{comparison.images} images of data.val\n\n"
            "Signal to noise in dB. fake: fake-quant against float, int: integers against\n"
            "float, f~int: integers against fake-quant, lost: loss of int against the\n"
            "worst input layer."
        )
        self._noise(comparison.layers)
        for number, rule in enumerate(self.rules, 1):
            name = f"rule {number}" if len(self.rules) > 1 else "the only rule"  # has no column
            console.print(f"  {name}  {spec_location(spec, rule)}", soft_wrap=True)
        console.print(
            "\nDistance in LSB between fake-quant and integers, share of the elements in\n"
            "percent: first given equal inputs, then end to end."
        )
        self._steps()
        console.print()
        self._departure()
        self._growth()
        console.print(f"\nThe {min(_WORST, len(comparison.layers))} worst layers in integers:")
        self._worst()
        if comparison.outputs:
            console.print("\nOutputs. Difference: |integers - fake-quant|, dequantized.")
            self._outputs()
        for name, errors in files.items():
            self._file(name, errors)

    def _noise(self, layers: Sequence[LayerError]) -> None:
        rows = [
            (
                layer.node.removeprefix(":"),
                layer.dtype,
                *map(_db, (layer.fake_quant, layer.integer, layer.between)),
                f"{layer.lost:.1f}" if layer.lost else "",
                self._number(layer),
            )
            for layer in layers
        ]
        head = (*_figures("layer", "fake", "int", "f~int", "lost"), self._rule_column())
        print_columns(self.console, head, rows)

    def _steps(self) -> None:
        shares = (
            *(Column(name, right=True) for name in ("0", "1")),
            *(Column(name, right=True, usual="0") for name in ("2", ">2")),
            Column("max", right=True),
        )
        head = (Column("layer", title=True), *shares, Column("|"), *shares)
        rows = [
            (e.node.removeprefix(":"), *_shares(e.local), "|", *_shares(e.end_to_end))
            for e in self.comparison.layers
        ]
        print_columns(self.console, head, rows)

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

    def _worst(self) -> None:
        rows = [
            (
                layer.node.removeprefix(":"),
                _db(layer.integer),
                f"{layer.lost:.1f}" if layer.lost else "",
                self._number(layer),
                short_location(layer.source),
            )
            for layer in self.comparison.worst[:_WORST]
        ]
        figures = (Column("int", right=True), Column("lost", right=True))
        head = (Column("layer", title=True), *figures, self._rule_column(), Column("model code"))
        print_columns(self.console, head, rows)

    def _outputs(self) -> None:
        rows = [
            (
                output.name,
                output.dtype,
                *map(_db, (output.fake_quant, output.integer, output.between)),
                f"{output.largest:.4g}",
                f"{mean(output):.4g}",
            )
            for output in self.comparison.outputs
        ]
        head = _figures("output", "fake", "int", "f~int", "largest", "mean")
        print_columns(self.console, head, rows)

    def _file(self, name: str, errors: Sequence[OnnxError]) -> None:
        first = next((e for e in errors if e.steps.largest), None)
        apart = "no layer differs from the fake-quant model"
        if first is not None:
            share = 100 * (1 - first.steps.shares[0])
            apart = (
                f"the first layer that differs is {first.node}, in {share:.3g} % of its elements"
            )
        self.console.print(f"\nQAT ONNX in onnxruntime, {name}:\n  {apart}")

    def _rule_column(self) -> Column:
        return Column("rule", usual="1" if len(self.rules) == 1 else "")

    def _number(self, layer: LayerError) -> str:
        """The number of the rule in the list below the first table."""
        return str(self.rules.index(layer.rule) + 1) if layer.rule else ""

    def _rule(self, layer: LayerError) -> str:
        return short_location(spec_location(self.spec, layer.rule)) if layer.rule else "-"


def _figures(name: str, *figures: str) -> tuple[Column, ...]:
    """A title, the dtype and columns of figures."""
    return (
        Column(name, title=True),
        Column("dtype"),
        *(Column(figure, right=True) for figure in figures),
    )


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

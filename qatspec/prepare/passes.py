"""The passes of prepare: everything that happens to a module, from its float form to the prepared
one, in order.

Before the first pass, `pipeline.py` checks and copies the model, finds the modules to prepare
(units) and records the arguments that each is called with. After the last one, the prepared module
takes the place of the float one.

`qatspec check SPEC --after PASS` prints the graph as it is after a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import fx, nn

from qatspec.diag import Code, Collector, DiagnosticError, InternalError
from qatspec.diag.codes import QS508, QS510
from qatspec.graph.alike import write_with_sizes
from qatspec.graph.gradients import cut_gradients
from qatspec.graph.spelling import follow_in_place, tensors_by_position
from qatspec.prepare.annotate import annotate
from qatspec.prepare.batch_sizes import check_batch_sizes
from qatspec.prepare.boundary import end_network
from qatspec.prepare.dead import drop_dead
from qatspec.prepare.decompose import decompose
from qatspec.prepare.decompose_modules import decompose_modules
from qatspec.prepare.elementwise import elementwise
from qatspec.prepare.extremes import check_extremes
from qatspec.prepare.fold import fold_batch_norms
from qatspec.prepare.functional import functional_to_module
from qatspec.prepare.fuse import fuse, split_shared_outputs
from qatspec.prepare.fusers import apply_fusers
from qatspec.prepare.guard import guard
from qatspec.prepare.identities import drop_identities
from qatspec.prepare.insert import insert
from qatspec.prepare.modes import merge_modes
from qatspec.prepare.observe import observe_custom_modules
from qatspec.prepare.outputs import check_outputs
from qatspec.prepare.resolve import resolve
from qatspec.prepare.shared import copy_shared_convs
from qatspec.prepare.sized_weights import fix_sizes_of_weights
from qatspec.prepare.tracing import build_module, trace
from qatspec.prepare.unit import Unit
from qatspec.prepare.verify import problem
from qatspec.prepare.weights import quantize_weights


@dataclass(frozen=True, slots=True)
class Pass:
    """One step: its name (`check --after NAME`), what it does, and the function that does it.
    goes_on: where it refuses the model, the next pass can run nevertheless.
    doubtful: codes of refusals from which those of this pass may follow.
    compares: the graphs of both modes, which says nothing where a part is missing in one."""

    name: str
    summary: str
    run: Callable[[Unit], None]
    goes_on: bool = False
    doubtful: tuple[Code, ...] = ()
    compares: bool = False


def _on_graph(function: Callable[[nn.Module, fx.Graph], None]) -> Callable[[Unit], None]:
    """A pass that needs the module and its graph alone."""
    return lambda unit: function(unit.module, unit.graph)


def _with_post_process(function: Callable[[nn.Module, fx.Graph], None]) -> Callable[[Unit], None]:
    """A pass over the network and over what evaluation alone computes behind it."""

    def run(unit: Unit) -> None:
        function(unit.module, unit.graph)
        if unit.ends is not None:
            function(unit.ends.in_evaluation, unit.ends.in_evaluation.graph)
            unit.ends.in_evaluation.recompile()

    return run


def _in_both_modes(
    function: Callable[[fx.Graph, Mapping[str, nn.Module]], None],
) -> Callable[[Unit], None]:
    """A pass over the graphs of evaluation and of training, with every submodule by path."""

    def run(unit: Unit) -> None:
        modules = dict(unit.module.named_modules(remove_duplicate=False))
        refusals = Collector()
        for graph in (unit.graph, unit.training):
            assert graph is not None
            with refusals.collect():
                function(graph, modules)
        if refusals:
            raise DiagnosticError(refusals.diagnostics)

    return run


#: Hooks, and random numbers in evaluation, make graphs of both modes differ.
_OF_MODES = (QS508, QS510)

#: Passes 3 to 5 are what `graph.trace.trace` does to every graph that it records.
# fmt: off
PASSES = (
    # float modules
    Pass("observe-custom", "Replace modules of custom classes by the spec's observed classes.",
         observe_custom_modules),
    # one graph of forward
    Pass("trace", "Record forward as a graph, in evaluation and in training.",
         trace, goes_on=True),
    Pass("operands", "Pass every tensor operand by position.",
         _in_both_modes(tensors_by_position)),
    Pass("in-place", "Let later ops read the result of an op that writes in place.",
         _in_both_modes(follow_in_place), goes_on=True),
    Pass("sizes", "Write ops that read only a tensor's shape with that shape.",
         _in_both_modes(lambda graph, _: write_with_sizes(graph))),
    Pass("batch-size", "Check that nothing depends on the number of images.",
         _on_graph(check_batch_sizes), goes_on=True),
    Pass("merge-modes", "Make one graph of both; what depends on the mode becomes a module.",
         merge_modes, goes_on=True, doubtful=_OF_MODES, compares=True),
    Pass("boundary", "End the network before what only one mode computes, or where the spec says.",
         end_network, goes_on=True, doubtful=_OF_MODES, compares=True),
    Pass("gradients", "Detach what forward computes under torch.no_grad().",
         _on_graph(cut_gradients), goes_on=True),
    # one spelling of each op
    Pass("decompose-modules", "Write composite modules as the ops that they consist of.",
         _on_graph(decompose_modules)),
    Pass("decompose", "Write composite ops, such as attention, as the ops that they consist of.",
         _with_post_process(decompose)),
    Pass("elementwise", "Make modules of functions of one number that no quant handler knows.",
         elementwise),
    Pass("sized-weights", "Make the weights of functional calls with the sizes of the example.",
         _on_graph(fix_sizes_of_weights)),
    Pass("functional", "Replace functional convs, linears and batch norms by modules.",
         _on_graph(functional_to_module)),
    Pass("identities", "Remove nn.Identity.",
         _on_graph(drop_identities)),
    Pass("module", "Build the module that runs the graph.",
         build_module),
    Pass("dead", "Remove what no output depends on.",
         drop_dead),
    Pass("outputs", "Check for outputs that are not tensors.",
         check_outputs, goes_on=True),
    # decisions
    Pass("rules", "Find the rule of the qconfig that decides each op.",
         resolve),
    Pass("split", "Give each of several batch norms after one conv its own call of the conv.",
         split_shared_outputs),
    Pass("fuse", "Form chains of ops that run as one.",
         fuse),
    Pass("fusers", "Apply the spec's fuser methods, which make one module of a chain.",
         apply_fusers),
    Pass("annotate", "Ask each op's handler how its result is quantized.",
         annotate),
    Pass("extremes", "Check for constants that would decide a range alone.",
         check_extremes, goes_on=True),
    # quantization
    Pass("insert", "Insert the fake-quants of activations.",
         insert),
    Pass("guard", "Guard the operands of functions with a pole or an infinite slope on their grid.",
         guard),
    Pass("copies", "Copy convs that are called several times, under `shared_conv: copy`.",
         copy_shared_convs),
    Pass("fold", "Fold batch norms into the convs before them.",
         fold_batch_norms),
    Pass("weights", "Replace modules with weights by ones with quantized weights.",
         quantize_weights),
)
# fmt: on


def run_passes(unit: Unit, last: str | None = None) -> None:
    """Run the passes over a unit, and verify its graph after each. What they refuse is in
    `unit.refusals`; behind a pass that refuses the model the others run if they can, to find
    further places.

    last: the name of the last pass to run; None: all. Raises InternalError where a pass leaves a
    malformed graph.
    """
    for step in PASSES:
        if step.compares and unit.is_recorded_unevenly:
            continue
        done = False
        with unit.refusals.collect(doubtful=step.doubtful):
            step.run(unit)
            if unit.traced and (wrong := problem(unit)):
                raise InternalError(f"pass `{step.name}` on `{unit.path or 'the model'}`: {wrong}")
            done = True
        if step.name == last or not (done or (step.goes_on and unit.traced)):
            break
    else:
        unit.finished = True
    if isinstance(unit.module, fx.GraphModule):
        with unit.refusals.collect():
            unit.module.recompile()

"""What tracing does where the model's code cannot be traced: it reports the place and goes on.

A decision on a tensor's numbers is given an answer, and a submodule whose forward fails is recorded
as one call, with the result of running it. Nothing is traced on in this way but to find further
places: the graph is refused in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.diag import Collector, Diagnostic, DiagnosticError
from qatspec.graph.source import Function, functions_around, functions_in

#: In a node's meta: it calls a module that cannot be traced, which is reported already.
REFUSED = "refused"
#: How often a whole model is traced anew with another answer.
_RETRIES = 8
Report = Callable[[str, nn.Module, Exception], Diagnostic]


class Refusals:
    """The places of one model that cannot be traced.

    problems  every place, each once.
    report    makes the diagnostic of an error that the forward of a module raised: path of the
            module, the module, the error.
    """

    def __init__(self, problems: Collector, report: Report) -> None:
        self.problems, self._report = problems, report
        #: for each place, the functions of the model's files that were running, outermost first
        self.running: list[tuple[Function, ...]] = []
        self._flipped: set[tuple[CodeType, int]] = set()
        self._asked: set[tuple[FrameType, int]] = set()
        self._last: tuple[CodeType, int] | None = None

    def start(self) -> None:
        """Begin a run of forward."""
        self._asked, self._last = set(), None

    # -- decisions ------------------------------------------------------------------------------

    def assume(self, refused: DiagnosticError, kind: type, frame: FrameType | None) -> Any:
        """Report a decision on numbers that tracing does not know, and return a number to go on
        with. A condition holds when it is first asked, so that its branch is entered and asserts
        pass, and does not from then on, so that loops end."""
        self.report(refused, frame)
        if frame is None:
            raise refused
        self._last = (frame.f_code, frame.f_lasti)
        asked = (frame, frame.f_lasti)
        answer = asked not in self._asked and self._last not in self._flipped
        self._asked.add(asked)
        return answer if kind is bool else kind(1)

    def retry(self) -> bool:
        """Whether to trace once more, with the other answer to the last condition: the branch that
        was entered raised an error."""
        if self._last is None or self._last in self._flipped or len(self._flipped) == _RETRIES:
            return False
        self._flipped.add(self._last)
        return True

    def report(self, refused: DiagnosticError, frame: FrameType | None) -> None:
        """Report a place behind which tracing goes on. frame: of the model's code there."""
        self.problems.add(refused.diagnostics)
        self.running.append(functions_around(frame))

    # -- errors ---------------------------------------------------------------------------------

    def fail(self, path: str, module: nn.Module, error: Exception) -> None:
        """Report an error that ends the forward of a module."""
        if isinstance(error, DiagnosticError):
            self.problems.add(error.diagnostics)
            self.running.append(functions_in(error.__traceback__))
        elif self._last is None:  # else it may follow from an answer
            self.problems.add(self._report(path, module, error))
            self.running.append(functions_in(error.__traceback__))
        self.problems.stop()

    def call_submodule(
        self, tracer: Any, module: nn.Module, call: Callable[[], Any], args: Any, kwargs: Any
    ) -> Any:
        """Return what `call` gives, which traces the forward of a module. Where it raises, record
        the module as one op. Raises that error where the module cannot be run either."""
        depth, before = len(tracer.module_stack), self._last
        last = next(iter(reversed(tracer.graph.nodes)))
        self._last = None
        try:
            while True:
                try:
                    return call()
                except Exception as error:  # noqa: BLE001, PERF203 - of the model
                    _forget(tracer, last, depth)
                    if not self.retry():
                        return self._call(tracer, module, args, kwargs, error)
        finally:
            self._last = self._last or before

    def _call(
        self, tracer: Any, module: nn.Module, args: Any, kwargs: Any, error: Exception
    ) -> fx.Proxy:
        """Record a module as one op, because tracing its forward raised `error`."""
        try:
            examples = pytree.tree_map_only(fx.Proxy, _example, (args, kwargs))
            result = tracer.examples.run_on_zeros(module, *examples)
        except Exception:  # noqa: BLE001 - a caller of the module may run as a whole
            raise error from None
        path = tracer.path_of_module(module)
        self.fail(path, module, error)
        proxy: fx.Proxy = tracer.create_proxy("call_module", path, args, kwargs)
        proxy.node.meta[REFUSED] = True
        proxy.node.meta["example"] = result
        return proxy


def _forget(tracer: Any, last: fx.Node, depth: int) -> None:
    """Leave the modules that are being traced, down to `depth`, and remove the nodes behind `last`,
    but for parameters and buffers, which all calls share."""
    while len(tracer.module_stack) > depth:
        tracer.module_stack.popitem()
    for node in reversed(tracer.graph.nodes):
        if node is last:
            break
        if node.op != "get_attr":
            tracer.graph.erase_node(node)


def _example(proxy: fx.Proxy) -> Any:
    return proxy.node.meta["example"]

"""Steps of evaluation that cannot be traced, each recorded as one call.

The suppression of overlapping boxes decides by numbers in tensors. Where evaluation alone runs it,
nothing of it is quantized, so that its code need not be a graph: the function or method around it
is one node behind the network.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from qatspec.graph.sizes import as_one_call
from qatspec.graph.source import Function

#: The names of the modules that stand for methods begin with this.
_NAME = "step_of_evaluation"


class Method(nn.Module):
    """A method of a module that is recorded as one call.

    owner: the path of that module in the root, whose child this is. `root` is set wherever the
    root is built, and is no part of copies and files.
    """

    def __init__(self, owner: str, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def attach(self, root: nn.Module) -> None:
        """Let the method be that of a module in `root`."""
        vars(self)["_root"] = (root,)  # not a child

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the method returns."""
        owner = vars(self)["_root"][0].get_submodule(self.owner)
        return getattr(owner, self.name)(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_root"}


@dataclass(slots=True)
class Steps:
    """What is recorded as one call.

    functions  of the model's files.
    methods    each with the module that has it; static: static methods, with their classes.
    """

    functions: list[Callable[..., Any]] = field(default_factory=list)
    methods: list[tuple[nn.Module, Method]] = field(default_factory=list)
    static: list[tuple[type, Callable[..., Any]]] = field(default_factory=list)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, methods are calls of the modules that stand for them, and static methods calls of
        a function."""
        for owner, method in self.methods:
            vars(owner)[method.name] = method
        before = [(cls, f.__name__, vars(cls)[f.__name__]) for cls, f in self.static]
        for cls, function in self.static:
            setattr(cls, function.__name__, staticmethod(as_one_call(function)))
        try:
            yield
        finally:
            for owner, method in self.methods:
                del vars(owner)[method.name]
            for cls, name, static in before:
                setattr(cls, name, static)


def steps_around(
    root: nn.Module,
    places: Sequence[Sequence[Function]],
    trained: Container[Any],
    depth: int,
) -> Steps | None:
    """Return the step around each place that cannot be traced: the outermost function that
    evaluation alone runs, or with a `depth` the one so many calls further inside. Methods become
    children of `root`. None where there is no such function around a place.

    places: the functions that run there, outermost first. trained: the code that training runs.
    """
    paths = {id(module): path for path, module in root.named_modules()}
    steps, chosen = Steps(), dict[Any, Function]()
    for running in places:
        candidates = [f for f in running if f.code not in trained and _is_usable(f, paths)]
        if not candidates:
            return None
        function = candidates[min(depth, len(candidates) - 1)]
        chosen[function.code, id(function.owner)] = function
    for function in chosen.values():
        owner, name = function.owner, function.callable.__name__
        if owner is None:
            steps.functions.append(function.callable)
        elif isinstance(owner, type):
            steps.static.append((owner, function.callable))
        else:
            method = Method(paths[id(owner)], name)
            method.attach(root)
            root.add_module(_free_name(root), method)
            steps.methods.append((owner, method))
    return steps


def forget(root: nn.Module, steps: Steps) -> None:
    """Remove the modules that stand for the methods of `steps` from `root`."""
    for _, method in steps.methods:
        for name, child in list(root.named_children()):
            if child is method:
                delattr(root, name)


def _is_usable(function: Function, paths: Container[int]) -> bool:
    """Whether a function that runs is found again where it is called."""
    owner, name = function.owner, function.callable.__name__
    if isinstance(owner, type):
        return isinstance(vars(owner).get(name), staticmethod)
    return owner is None or id(owner) in paths


def called_modules(graph: fx.Graph) -> set[str]:
    """Return the paths of the modules that a graph calls."""
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _free_name(root: nn.Module) -> str:
    number = 0
    while hasattr(root, f"{_NAME}_{number}"):
        number += 1
    return f"{_NAME}_{number}"

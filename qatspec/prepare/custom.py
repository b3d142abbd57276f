"""The keys of `prepare` that name code: patterns, fuser methods, and classes that replace others.

torch removed the `additional_*` keys in 2022 and ignores them silently; here they are supported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import fx, nn

from qatspec.diag import Collector
from qatspec.graph.context import GraphContext
from qatspec.graph.ops import module_op
from qatspec.prepare.names import class_name, refused, resolve_code
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry
from qatspec.spec.symbols import symbol
from qatspec.types import Annotation, FusePattern, PrepareConfig, QConfig, QuantHandler

Annotate = Callable[[fx.Node, GraphContext], Annotation]

#: Keys that map classes to classes -> the class method that makes the new module.
_METHODS = {
    "additional_qat_module_mapping": "from_float",
    "float_to_observed_custom_module_class": "from_float",
    "observed_to_quantized_custom_module_class": "from_observed",
}
#: Ops that own a weight: they tell a forward pattern from a reversed one.
_WEIGHTED = ("Conv", "Linear", "conv", "linear")


@dataclass(frozen=True, slots=True)
class QConfigBuilders:
    """A QConfig in the shape that `from_float` of torch's modules expects: two factories."""

    qconfig: QConfig
    channels: int

    def weight(self, factory_kwargs: Mapping[str, Any] | None = None) -> FakeQuantize | nn.Identity:
        """The fake-quant of the weight; nn.Identity where the rule leaves it in float."""
        qspec = self.qconfig.weight
        return build_fake_quant(qspec, self.channels) if qspec else nn.Identity()

    def activation(
        self, factory_kwargs: Mapping[str, Any] | None = None
    ) -> FakeQuantize | nn.Identity:
        """The fake-quant of an activation; nn.Identity where the rule leaves it in float."""
        qspec = self.qconfig.activation
        return build_fake_quant(qspec) if qspec else nn.Identity()


@dataclass(frozen=True, slots=True)
class Custom:
    """The code that a PrepareConfig names, imported.

    fusions    patterns that become one group, longest first.
    quantizers (names in forward order, handler or annotate function), longest first.
    fusers     (classes in forward order, method(*modules) -> module), longest first.
    qat        float class -> class with `from_float(module)`; observed, quantized: likewise.
    """

    fusions: tuple[FusePattern, ...] = ()
    quantizers: tuple[tuple[tuple[str, ...], QuantHandler | Annotate], ...] = ()
    fusers: tuple[tuple[tuple[str, ...], Callable[..., nn.Module]], ...] = ()
    qat: tuple[tuple[str, Any], ...] = ()
    observed: tuple[tuple[str, Any], ...] = ()
    quantized: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, config: PrepareConfig, at: str = "") -> Custom:
        """Resolve the keys of `config`. Raises DiagnosticError QS602; at: the module's pointer."""

        def pointer(key: str) -> str:
            return f"{at}/prepare/{key}" if at else ""

        def longest_first(rows: Any) -> tuple[Any, ...]:
            return tuple(sorted(rows, key=lambda row: -len(row[0])))

        unknown = Collector()
        quantizers, fusers = [], []
        for pattern, value in config.additional_quant_pattern.items():
            with unknown.collect():
                handler = _handler(value, pointer("additional_quant_pattern"))
                quantizers.append((forward(pattern), handler))
        for types, value in config.additional_fuser_method_mapping.items():
            with unknown.collect():
                method = _callable(value, pointer("additional_fuser_method_mapping"))
                fusers.append((_chain(types), method))
        fusions: list[FusePattern] = []
        with unknown.collect():
            fusions += _fusions(config, pointer("additional_fusion_pattern"))
        classes: dict[str, tuple[tuple[str, Any], ...]] = {}
        for key, method_name in _METHODS.items():
            with unknown.collect():
                classes[key] = _classes(config, key, method_name, pointer)
        unknown.raise_if_any()
        chains = [
            FusePattern(name="additional_quant_pattern", summary="", pattern=names)
            for names, _ in quantizers
            if len(names) > 1
        ]
        return cls(
            fusions=tuple(sorted([*fusions, *chains], key=lambda p: -len(p.pattern))),
            quantizers=longest_first(quantizers),
            fusers=longest_first(fusers),
            qat=classes["additional_qat_module_mapping"],
            observed=classes["float_to_observed_custom_module_class"],
            quantized=classes["observed_to_quantized_custom_module_class"],
        )

    def patterns(self, registered: Sequence[FusePattern]) -> tuple[FusePattern, ...]:
        """Return every fuse pattern, longest first; those of the spec before registered ones of the
        same length."""
        ranked = sorted(registered, key=lambda p: p.name)
        return tuple(sorted([*self.fusions, *ranked], key=lambda p: -len(p.pattern)))

    def annotation(
        self, nodes: Sequence[fx.Node], by_fuser: bool, context: GraphContext, at: str
    ) -> Annotation | None:
        """Return how the keys of the spec annotate fused ops, None where no key matches them.

        nodes: the fused ops, the anchor first. by_fuser: a fuser method made the first ones one
        module. at: the module's pointer. Raises DiagnosticError QS602.
        """
        anchor = nodes[0]
        for names, handler in self.quantizers:
            if self.matches(names, nodes, context):
                return _annotated(handler, anchor, context, at)
        module = context.module(anchor)
        if module is None:
            return None
        if self.qat_class(module):
            return Annotation(kind="anchor", has_weight=True, int32_tail=True)
        if by_fuser or any(isinstance(module, cls) for _, cls in self.observed):
            tensors = tuple(i for i, a in enumerate(anchor.args) if context.is_float_tensor(a))
            return None if context.op(anchor) else Annotation(inputs=tensors)
        return None

    def matches(
        self, names: Sequence[str], nodes: Sequence[fx.Node], context: GraphContext
    ) -> bool:
        """Return whether fused ops begin with the ops of a pattern."""
        long_enough = len(names) <= len(nodes)
        return long_enough and all(map(partial(matches_entry, context), nodes, names))

    def serve(self, root: nn.Module) -> None:
        """Make modules without weights, of the classes that `additional_quant_pattern` names alone,
        an op of the handler."""
        for names, handler in self.quantizers:
            if isinstance(handler, QuantHandler) and len(names) == 1:
                for module in root.modules():
                    of_class = any(symbol(base) in names for base in type(module).__mro__)
                    op = _op_of(handler, module)
                    if of_class and op and module_op(module) not in handler.ops:
                        module.canonical_op = op  # type: ignore[assignment]

    def qat_class(self, module: nn.Module) -> Any:
        """Return the spec's class for `module` with a quantized weight, None: the built-in."""
        return next((cls for name, cls in self.qat if is_exactly(module, name)), None)

    def observed_class(self, module: nn.Module) -> Any:
        """Return the observed class that replaces a custom float module, or None."""
        return next((cls for name, cls in self.observed if is_exactly(module, name)), None)


def forward(pattern: Any) -> tuple[str, ...]:
    """Return a pattern as names in forward order.

    A nested tuple is in torch's reversed order, (ReLU, (BatchNorm2d, Conv2d)), and so is a pair
    such as (BatchNorm2d, Conv2d), unless only its first entry owns a weight. A longer flat tuple
    is in forward order unless only its last entry owns one.
    """
    names = symbol(pattern)
    if isinstance(names, str):
        return (names,)
    if any(isinstance(part, tuple) for part in names):
        return tuple(reversed(_flat(names)))
    first, last = _weighted(names[0]), _weighted(names[-1])
    backward = last and not first if len(names) > 2 else last or not first
    return tuple(reversed(names)) if backward else tuple(names)


def matches_entry(context: GraphContext, node: fx.Node, name: str) -> bool:
    """Return whether an entry of a pattern, canonical ops or a qualified name, matches the node."""
    op = context.op(node)
    if op is not None and op in name.split("|"):
        return True
    return "." in name and name in context.rule_names(node)


def from_float(cls: Any, module: nn.Module, qconfig: QConfig) -> nn.Module:
    """Return `cls.from_float(module)`; the module has a `qconfig`, as torch's classes expect."""
    weight = getattr(module, "weight", None)
    module.qconfig = QConfigBuilders(qconfig, 1 if weight is None else weight.shape[0])  # type: ignore[assignment]
    new = cls.from_float(module)
    assert isinstance(new, nn.Module)
    return new.train(module.training)


def _fusions(config: PrepareConfig, at: str) -> list[FusePattern]:
    patterns = []
    for pattern, value in config.additional_fusion_pattern.items():
        record = value
        if isinstance(value, str) and "." not in value:
            record = registry().record("fuse_pattern", value, at)
        if not isinstance(record, FusePattern):
            record = FusePattern(
                name="additional_fusion_pattern", summary="", pattern=(), check=_callable(value, at)
            )
        patterns.append(replace(record, pattern=forward(pattern)))
    return patterns


def _handler(value: Any, at: str) -> QuantHandler | Annotate:
    if isinstance(value, str) and "." not in value:
        value = registry().record("quant_handler", value, at)
    return value if isinstance(value, QuantHandler) else _callable(value, at)


def _op_of(handler: QuantHandler, module: nn.Module) -> str | None:
    """The op as which a handler can serve a module without weights: its only one, or the one that
    is matches_entry as the class."""
    if any(True for _ in module.parameters()):
        return None
    name = type(module).__name__.lower()
    alike = (op for op in handler.ops if op.lower() == name)
    return handler.ops[0] if len(handler.ops) == 1 else next(alike, None)


def _annotated(
    handler: QuantHandler | Annotate, anchor: fx.Node, context: GraphContext, at: str
) -> Annotation:
    """What the handler of a matching pattern gives for its first op.

    Raises DiagnosticError QS602 for a handler of other ops, whose integers would not be used."""
    key = f"{at}/prepare/additional_quant_pattern" if at else ""
    if isinstance(handler, QuantHandler):
        op = context.op(anchor)
        if op not in handler.ops:
            name = context.rule_names(anchor)[-1]
            raise refused(
                f"`additional_quant_pattern` names the handler `{handler.name}` for "
                f"`{context.label(anchor)}`, which it does not serve",
                f"serve it by `QuantHandler(ops=({name!r},), ...)` of a plugin, or name the "
                "handler of this op, or a function `annotate(node, context)`, which decides the "
                "scale alone",
                key,
            )
        annotation = handler.annotate(anchor, context)
    else:
        annotation = handler(anchor, context)
    if not isinstance(annotation, Annotation):
        raise refused(
            f"a handler of `additional_quant_pattern` returned {annotation!r}",
            "return a qatspec.api.Annotation from `handler(node, context)`",
            key,
        )
    return annotation


def _callable(value: Any, at: str) -> Callable[..., Any]:
    function = resolve_code(value, at)
    if not callable(function):
        raise refused(f"`{value}` is not callable", "give a function", at)
    return function  # type: ignore[no-any-return]


def _classes(
    config: PrepareConfig, key: str, method: str, pointer: Callable[[str], str]
) -> tuple[tuple[str, Any], ...]:
    classes = []
    for name, value in getattr(config, key).items():
        cls = resolve_code(value, pointer(key))
        if not hasattr(cls, method):
            raise refused(
                f"`{symbol(value)}` has no `{method}`",
                f"give it a classmethod `{method}(module)` that returns the new module",
                pointer(key),
            )
        classes.append((class_name(name), cls))
    return tuple(classes)


def _chain(types: Any) -> tuple[str, ...]:
    return tuple(class_name(t) for t in (types if isinstance(types, tuple) else (types,)))


def _flat(names: tuple[Any, ...]) -> list[str]:
    flat: list[str] = []
    for part in names:
        flat += _flat(part) if isinstance(part, tuple) else [part]
    return [name for name in flat if not name.endswith("MatchAllNode")]


def _weighted(name: str) -> bool:
    return name.rpartition(".")[2].startswith(_WEIGHTED)


def is_exactly(module: nn.Module, name: str) -> bool:
    """Whether a module is of the class `name` itself: a subclass may compute something else."""
    cls = type(module)
    return name in (symbol(cls), f"{cls.__module__}.{cls.__qualname__}")

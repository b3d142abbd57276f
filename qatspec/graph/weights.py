"""Weights and scales of a prepared model: seeded where never seen, and refused where unusable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS609, QS610, QS611, QS705
from qatspec.diag.words import quote_list
from qatspec.graph.calibrated import first_fed
from qatspec.graph.constants import evaluate
from qatspec.graph.modes import eval_mode
from qatspec.graph.module import TracedModule
from qatspec.graph.prepared import Prepared
from qatspec.quant.fake_quant import FakeQuantize, is_usable_scale
from qatspec.quant.modules import QuantOp, is_weight_quantized


def seed_weights(model: nn.Module) -> None:
    """Set the scales of weights that no scale was set for yet, from the weights' own extremes."""
    with eval_mode(model):
        for module, node in _calls(model):
            called = module.get_submodule(str(node.target))
            if not is_weight_quantized(called):
                continue
            fake_quant: Any = called.weight_fake_quant
            if fake_quant.observed:
                continue
            if isinstance(called, QuantOp):
                called.seed(*(evaluate(module, operand) for operand in node.args[1:]))
            elif getattr(called, "weight", None) is not None:
                # A class that the spec swapped in: its weight lies as torch's conv has it.
                fake_quant.observe(called.weight)


def require_usable(prepared: Prepared) -> None:
    """Refuse what would become wrong integers without a trace.

    Raises DiagnosticError: QS609 for parameters, batch norm statistics and folded weights that are
    not finite (or a negative variance), QS610 for activations that were not finite in calibration,
    QS705 for scales that are not finite and positive.
    """
    with eval_mode(prepared.model), torch.no_grad():
        units = {path: prepared.model.get_submodule(path) for path in prepared.modules}
        problems = [d for path, unit in units.items() for d in _unusable_tensors(path, unit)]
        problems = problems or [
            d for path, unit in units.items() for d in _unusable_folds(path, unit)
        ]
        fake_quants = _fake_quants(prepared.model)
        problems += _not_finite_activations(prepared, fake_quants, "at least one batch")
        problems += _unusable_scales(fake_quants)
    if problems:
        raise DiagnosticError(problems)


def _unusable_tensors(path: str, unit: nn.Module) -> Iterator[Diagnostic]:
    for name, module in unit.named_modules():
        if isinstance(module, FakeQuantize):
            continue
        tensors: list[tuple[str, Tensor]] = list(module.named_parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._NormBase):
            tensors += module.named_buffers(recurse=False)
        for key, tensor in tensors:
            full = ".".join(part for part in (path, name, key) if part)
            if problem := describe_not_finite(tensor):
                yield _not_finite(f"`{full}` {problem}")
            elif key == "running_var" and (tensor < 0).any():
                yield _not_finite(f"`{full}`, a variance, is negative ({tensor.min().item():g})")


def describe_not_finite(tensor: Tensor) -> str:
    """ "holds NaN (2 of 9 numbers)" and the like; "" for a tensor of finite numbers."""
    if not tensor.is_floating_point() or torch.isfinite(tensor).all():
        return ""
    what = "NaN" if tensor.isnan().any() else "infinity"
    count = int((~torch.isfinite(tensor)).sum())
    return f"holds {what} ({count} of {tensor.numel()} numbers)"


def _unusable_folds(path: str, unit: nn.Module) -> Iterator[Diagnostic]:
    """Weights that are not finite as they are computed, or with a batch norm folded in."""
    for module, node in _calls(unit):
        called = module.get_submodule(str(node.target))
        if not isinstance(called, QuantOp):
            continue
        operands = [evaluate(module, operand) for operand in node.args[1:]]
        for kind, tensor in zip(("weight", "bias"), called.folded(*operands), strict=True):
            if tensor is not None and (problem := describe_not_finite(tensor)):
                called_at = str(node.meta.get("owner") or node.target)
                owner = ".".join(part for part in (path, called_at) if part)
                yield _not_finite(
                    f"the {kind} of `{owner}`, computed and with its batch norm folded in, "
                    f"{problem}"
                )


def _not_finite(message: str) -> Diagnostic:
    return QS609.diagnostic(
        message,
        help="start from weights of finite numbers: an earlier checkpoint, or a new training with "
        "a lower learning rate",
    )


def require_finite_activations(prepared: Prepared, batch: str) -> None:
    """Raise DiagnosticError QS610 where an activation was not finite since the calibration began.
    batch: the name of the last batch in messages."""
    problems = list(_not_finite_activations(prepared, _fake_quants(prepared.model), batch))
    if problems:
        raise DiagnosticError(problems)


def _fake_quants(model: nn.Module) -> list[tuple[str, FakeQuantize]]:
    return [(path, m) for path, m in model.named_modules() if isinstance(m, FakeQuantize)]


def _not_finite_activations(
    prepared: Prepared, fake_quants: Sequence[tuple[str, FakeQuantize]], batch: str
) -> Iterator[Diagnostic]:
    """The first fake-quant, in the order of the graph, that was fed something not finite."""
    spoilt = [path for path, fake_quant in fake_quants if fake_quant.saw_not_finite]
    if not spoilt:
        return
    what, span = first_fed(prepared, spoilt)
    behind = f", and {len(spoilt) - 1} more behind it" if len(spoilt) > 1 else ""
    yield QS610.diagnostic(
        f"in calibration, {what} was not finite on {batch}{behind}",
        help="remove the images that cause it from the calibration data or correct the op, then "
        'calibrate again after `set_stage(prepared, "calibration")`',
        span=span,
    )


def _unusable_scales(fake_quants: Sequence[tuple[str, FakeQuantize]]) -> Iterator[Diagnostic]:
    for path, fake_quant in fake_quants:
        if fake_quant.disabled or not fake_quant.observed:
            continue
        scale = fake_quant.scale.detach()
        usable = is_usable_scale(scale, fake_quant.qspec.qmax)
        if not usable.all():
            again = "" if path.endswith("weight_fake_quant") else "calibrate again, or "
            yield QS705.diagnostic(
                f"fake-quant `{path}` has no usable scale: scale "
                f"{float(scale[~usable].reshape(-1)[0])}",
                help=f"{again}start from an earlier checkpoint; where the scale is learned, lower "
                "the learning rate",
            )


def require_switched_on(prepared: Prepared) -> None:
    """Raise DiagnosticError QS611 where fake-quants were switched off by hand or by loading the
    state of another stage, so that the model does not compute what its Program would."""
    off = [
        path
        for path, module in prepared.model.named_modules()
        if isinstance(module, FakeQuantize) and not module.disabled and not module.fake_quant_on
    ]
    if off and prepared.stage != "calibration":
        raise QS611.error(
            f"the model is in stage `{prepared.stage}`, but {len(off)} of its "
            f"fake-quants are switched off: {quote_list(off)}",
            help='call `set_stage(prepared, "eval")`, which switches all of them on; a rule '
            "`null` of the qconfig leaves an op in float",
        )


def _calls(model: nn.Module) -> Iterator[tuple[TracedModule, fx.Node]]:
    for module in model.modules():
        if isinstance(module, TracedModule):
            yield from ((module, n) for n in module.graph.nodes if n.op == "call_module")

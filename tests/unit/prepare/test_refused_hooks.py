"""What `prepare` refuses because a copy would lose it: hooks, and what cannot be copied."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.modules.module as torch_module
from torch import Tensor, nn

from qatspec.prepare import prepare
from tests.unit.prepare.test_preconditions import Inside, X, codes, net, refusal, works

# -- hooks --------------------------------------------------------------------------------------

HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "forward": lambda m: m.register_forward_hook(lambda m, args, out: out * 2),
    "forward with kwargs": lambda m: m.register_forward_hook(
        lambda m, args, kwargs, out: out * 2, with_kwargs=True
    ),
    "forward pre": lambda m: m.register_forward_pre_hook(lambda m, args: (args[0] * 2,)),
    "backward": lambda m: m.register_full_backward_hook(lambda m, a, b: None),
    "backward pre": lambda m: m.register_full_backward_pre_hook(lambda m, a: None),
    "partial": lambda m: m.register_forward_hook(functools.partial(lambda k, m, a, o: o * k, 2)),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("path", ["", "0", "1", "2"])
def test_a_hook_is_refused_and_removing_it_helps(kind: str, path: str) -> None:
    model = net()
    handle = HOOKS[kind](model.get_submodule(path))
    (problem,) = refusal(model).diagnostics
    assert problem.code == "QS508"
    assert (f"`{path}`" if path else "the model") in problem.message
    assert problem.span and problem.span.file == __file__ and problem.span.line > 0
    handle.remove()
    works(model)


def test_a_hook_outside_the_prepared_modules_is_refused() -> None:
    model = Inside(net())
    model.register_forward_hook(lambda m, args, out: out * 2)
    assert codes(refusal(model, modules={"part": {}})) == {"QS508"}


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_of_a_parameter_is_refused(register: str) -> None:
    model = net()
    handle = getattr(model[0].weight, register)(lambda grad: None)
    (problem,) = refusal(model).diagnostics
    assert problem.code == "QS508" and "parameter `0.weight`" in problem.message
    handle.remove()
    works(model)


def test_a_global_hook_is_refused() -> None:
    handle = torch_module.register_module_forward_hook(lambda m, args, out: None)
    try:
        error = refusal(net())
    finally:
        handle.remove()
    assert codes(error) == {"QS508"} and "every module" in str(error)
    works(net())


@pytest.mark.parametrize("path", ["", "0", "1", "3"])
def test_hooks_on_state_dicts_are_kept(path: str) -> None:
    model = net()
    called: list[str] = []
    module = model.get_submodule(path)
    module.register_state_dict_pre_hook(lambda *_: called.append("before saving"))
    module.register_state_dict_post_hook(lambda *_: called.append("after saving"))
    module.register_load_state_dict_pre_hook(lambda *_: called.append("before loading"))
    module.register_load_state_dict_post_hook(lambda *_: called.append("after loading"))
    prepared = prepare(model, (X,), qconfig="horizon_qat")
    called.clear()
    prepared.model.load_state_dict(prepared.model.state_dict())
    assert called == ["before saving", "after saving", "before loading", "after loading"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_buffer_that_is_not_saved_stays_so(inside: bool) -> None:
    model: nn.Module = _Holds(None)
    model.register_buffer("factor", torch.ones(1), persistent=False)
    model = Inside(model) if inside else model
    prepared = prepare(model, (X,), qconfig="horizon_qat")
    float_keys = [k for k in prepared.model.state_dict() if "_post_process" not in k and
                  "_fake_quant" not in k]  # fmt: skip
    assert float_keys == list(model.state_dict())


# -- copies -------------------------------------------------------------------------------------


class _Holds(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        lambda: (i for i in range(3)),
        lambda: open(__file__, "rb"),  # noqa: SIM115
        lambda: nn.Parameter(torch.ones(3)) * 2,
        lambda: [nn.Parameter(torch.ones(3)) * 2],
    ],
)
def test_what_cannot_be_copied_is_named_and_inplace_works(make: Callable[[], object]) -> None:
    value = make()
    model = Inside(_Holds(value))
    error = refusal(model)
    assert codes(error) == {"QS511"} and "`part.value`" in str(error)
    model.part.value = value.detach() if isinstance(value, Tensor) else value
    works(model, inplace=not isinstance(value, Tensor))
    getattr(value, "close", lambda: None)()

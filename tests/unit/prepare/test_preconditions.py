"""Models that cannot be prepared are refused by name, and the help line's fix works."""

from __future__ import annotations

import functools
import keyword
import types
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare, set_stage

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


class Inside(nn.Module):
    """A model with `part` as a child."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 3, 1), part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.stem(x))


def refusal(model: object, x: Tensor = X, **settings: object) -> DiagnosticError:
    with pytest.raises(DiagnosticError) as caught:
        prepare(model, (x,), qconfig="horizon_qat", **settings)  # type: ignore[arg-type]
    return caught.value


def codes(error: DiagnosticError) -> set[str]:
    return {d.code for d in error.diagnostics}


def works(model: nn.Module, **settings: object) -> None:
    """Calibration gives the float model's numbers, and eval nearly so."""
    model.eval()
    with torch.no_grad():
        expected = model(X)
        prepared = prepare(model, (X,), qconfig="horizon_qat", **settings)  # type: ignore[arg-type]
        torch.testing.assert_close(prepared.model(X), expected)
        set_stage(prepared, "eval")
        assert (prepared.model(X) - expected).norm() < 0.1 * expected.norm()


# -- objects that are no ordinary module --------------------------------------------------------


def _replaced(part: nn.Module) -> nn.Module:
    part.forward = types.MethodType(lambda self, x: 2 * type(self).forward(self, x), part)
    return part


class _Called(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


class _Forward(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _derived(part: nn.Module) -> nn.Module:
    old = type(part)

    class Derived(old):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return 2 * old.forward(self, x)

    part.__class__ = Derived
    del part.forward
    return part


def _compiled(part: nn.Module) -> nn.Module:
    part.compile(backend="eager")
    return part


def _not_compiled(part: nn.Module) -> nn.Module:
    part._compiled_call_impl = None
    return part


UNUSUAL: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], nn.Module]]] = {
    "jit.script": (lambda: torch.jit.script(net()), lambda m: _loaded(m)),
    "jit.trace": (lambda: torch.jit.trace(net().eval(), X), lambda m: _loaded(m)),
    "torch.compile": (lambda: torch.compile(net(), backend="eager"), lambda m: m._orig_mod),
    "module.compile": (lambda: _compiled(net()), _not_compiled),
    "DataParallel": (lambda: nn.DataParallel(net()), lambda m: m.module),
    "forward of the instance": (lambda: _replaced(net()), _derived),
    "__call__": (lambda: _Called(*net()), lambda m: _Forward(*m)),
}


def _loaded(scripted: nn.Module) -> nn.Module:
    model = net()
    model.load_state_dict(scripted.state_dict())
    return model


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.parametrize("inside", [False, True])
def test_an_unusual_module_is_refused_and_the_fix_works(kind: str, inside: bool) -> None:
    make, fix = UNUSUAL[kind]
    model = make()
    error = refusal(Inside(model) if inside else model)
    assert codes(error) == {"QS507"}
    assert ("`part`" in str(error) or "part.compile" in str(error)) == inside
    works(Inside(fix(model)) if inside else fix(model))


def test_a_wrapper_around_prepared_modules_is_fine() -> None:
    works(nn.DataParallel(Inside(net())), modules={"module.stem": {}, "module.part": {}})


@pytest.mark.parametrize("model", [lambda x: x + 1, torch.relu, functools.partial(torch.add, 1)])
def test_a_function_is_refused(model: object) -> None:
    assert codes(refusal(model)) == {"QS507"}


# -- tensors that are not plain float32 ---------------------------------------------------------


class Named(nn.Module):
    """A model with one member of any name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__()
        self.kind, self.name = kind, name
        self.stem = nn.Conv2d(3, 3, 1)
        if kind == "module":
            self.add_module(name, nn.Conv2d(3, 3, 1))
        elif kind == "key":
            self.parts = nn.ModuleDict({name: nn.Conv2d(3, 3, 1)})
        elif kind == "parameter":
            self.register_parameter(name, nn.Parameter(torch.ones(3, 1, 1)))
        else:
            self.register_buffer(name, torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.kind == "module":
            return self.get_submodule(self.name)(x)
        if self.kind == "key":
            return self.parts[self.name](x)
        return x * (self._parameters if self.kind == "parameter" else self._buffers)[self.name]


UNWRITABLE = (
    *keyword.kwlist, 'a"b', "a\\b", "a\\", "a\nb", "a\rb", "\ud800", "\ufb01", "\u2160", "a\0",
)  # fmt: skip
WRITABLE = (
    "1", "a-b", "a b", "a/b", "a'b", "{x}", "%s", "\u00e9", "\u202e", "\x1b[31m", "a\u2028",
    "match", "x", "output", "torch", "#c", "a:b",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["module", "key", "parameter", "buffer"])
@pytest.mark.parametrize("name", [*UNWRITABLE, *WRITABLE, "self"])
def test_names_that_tracing_cannot_write_are_refused_and_the_fix_works(
    kind: str, name: str
) -> None:
    if kind in ("module", "key") and hasattr(nn.Module(), name):
        pytest.skip("torch refuses it")
    if name in UNWRITABLE or (name == "self" and kind != "key"):
        (found,) = refusal(Named(kind, name)).diagnostics
        assert found.code == "QS516"
        assert found.help is not None
        name = found.help.split("such as `")[1].split("`")[0]
    prepared = prepare(Named(kind, name), (X,), qconfig="horizon_qat")
    assert prepared.model(X).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64])
def test_another_dtype_is_refused_and_float_works(dtype: torch.dtype) -> None:
    model = net().to(dtype)
    error = refusal(model, X.to(dtype))
    assert codes(error) == {"QS509"} and "`0.weight`" in str(error)
    assert error.diagnostics[0].help and "model.float()" in error.diagnostics[0].help
    works(model.float())


def test_a_part_of_another_dtype_is_refused() -> None:
    model = net()
    model[3].double()
    (problem,) = refusal(model).diagnostics
    assert problem.code == "QS509" and "`3.weight`, `3.bias` (2 tensors)" in problem.message


def test_statistics_of_another_dtype_are_refused() -> None:
    model = net()
    model[1].running_var = model[1].running_var.double()
    (problem,) = refusal(model).diagnostics
    assert problem.code == "QS509" and "`1.running_var` is" in problem.message


class _Subclass(Tensor):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda w: nn.Parameter(w.to_sparse()),
        lambda w: nn.Parameter(w.to(torch.complex64)),
        lambda w: nn.Parameter(w.detach().as_subclass(_Subclass)),
    ],
)
def test_other_kinds_of_tensors_are_refused(make: Callable[[Tensor], nn.Parameter]) -> None:
    model = net()
    model[3].weight = make(model[3].weight.detach())
    (problem,) = refusal(model).diagnostics
    assert problem.code == "QS509" and "`3.weight`" in problem.message


def test_an_uninitialized_module_is_refused_and_one_call_helps() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    error = refusal(model)
    assert codes(error) == {"QS507"} and "`0.weight`" in str(error)
    model(X)
    works(model)


def test_the_meta_device_is_refused_and_weights_help() -> None:
    with torch.device("meta"):
        model = net()
    error = refusal(model)
    assert codes(error) == {"QS507"} and "`0.weight`" in str(error)
    model = model.to_empty(device="cpu")
    model.load_state_dict(net().state_dict())
    works(model)


def test_frozen_and_inference_parameters_are_fine() -> None:
    with torch.inference_mode():
        model = net()
    prepared = prepare(model.requires_grad_(False), (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model(X.clone().requires_grad_()).sum().backward()


# -- values of another dtype --------------------------------------------------------------------


class _Step(nn.Module):
    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.step = nn.Conv2d(3, 4, 3), step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.conv(x))


def _cast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.transpose(2, 3)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.double() + 1,
        lambda x: x.half().relu(),
        lambda x: x * torch.ones(4, 1, 1, dtype=torch.float64),
        _cast,
    ],
)
def test_a_value_of_another_dtype_is_refused_with_its_line(step: object) -> None:
    (problem,) = refusal(_Step(step)).diagnostics  # type: ignore[arg-type]
    assert problem.code == "QS509" and "where float32 is expected" in problem.message
    assert problem.span and problem.span.file == __file__ and problem.span.line > 0


def test_a_cast_back_to_float32_is_fine() -> None:
    works(_Step(lambda x: x.double().float().relu()))
    works(_Step(lambda x: x * torch.ones(4, 1, 1, dtype=torch.float64).float()))


class _Typed(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)


class _TypedAny(nn.Sequential):
    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """What type checkers read."""
        return super().__call__(*args, **kwargs)


class _Named(nn.Sequential):
    __call__ = nn.Module.__call__


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", [_Typed, _TypedAny, _Named])
@torch.no_grad()
def test_a_call_that_only_passes_on_is_no_other_code(kind: type[nn.Module], inside: bool) -> None:
    model = kind(*net())
    model = (Inside(model) if inside else model).eval()
    torch.testing.assert_close(prepare(model, (X,), qconfig="horizon_qat").model(X), model(X))


def test_a_buffer_that_a_norm_does_not_read_may_be_float64() -> None:
    model = net()
    model[1].register_buffer("history", torch.zeros(3, dtype=torch.float64))
    prepare(model.eval(), (X,), qconfig="horizon_qat")


class _Itself(nn.Conv2d):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return self


class _SameWeight(nn.Conv2d):
    def __deepcopy__(self, memo: object) -> nn.Module:
        made = nn.Conv2d(3, 3, 1)
        made.weight = self.weight
        return made


@pytest.mark.parametrize(("part", "name"), [(_Itself, "`1`"), (_SameWeight, "`1.weight`")])
def test_a_copy_that_is_the_model_itself_is_refused(part: type[nn.Conv2d], name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), part(3, 3, 1), nn.BatchNorm2d(3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    error = refusal(model)
    assert codes(error) == {"QS511"} and name in str(error)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    works(model, inplace=True)  # the way out

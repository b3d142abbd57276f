"""Prepared models travel: pickles, copies, EMA, wrappers of data parallelism, state dicts."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from tests.unit.prepare.conftest import Detector, image


def _prepared():
    prepared = prepare(
        Detector(),
        (image(2, 3, 32, 32),),
        qconfig="horizon_qat",
        modules={"backbone": {}, "head": {"quantize_input": False, "quantize_output": False}},
    )
    set_stage(prepared, "qat")
    prepared.model(image(2, 3, 32, 32))
    return prepared


def _flat(outs: tuple[list[Tensor], ...]) -> list[Tensor]:
    return [t for maps in outs for t in maps]


def _same(a: nn.Module, b: nn.Module) -> bool:
    x = image(2, 3, 32, 32)
    return all(
        torch.equal(p, q) for p, q in zip(_flat(a.eval()(x)), _flat(b.eval()(x)), strict=True)
    )


def _pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def _saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("way", [_pickled, _saved, copy.deepcopy])
def test_a_copy_is_the_same_and_is_a_copy(way) -> None:
    model = _prepared().model
    again = way(model)
    assert list(again.state_dict()) == list(model.state_dict())
    assert _same(again, model)
    for (name, mine), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert mine is not other and torch.equal(mine, other), name
    switches = [
        [(m.fake_quant_on, m.observer_on, m.disabled) for m in net.modules()
         if isinstance(m, FakeQuantize)]
        for net in (model, again)
    ]  # fmt: skip
    assert switches[0] == switches[1]
    loss = again.loss(again.train()(image(2, 3, 32, 32)))  # methods still work
    loss.backward()
    assert model.backbone.stem[0].weight.grad is None


def test_an_averaged_copy() -> None:
    model = _prepared().model
    ema = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    assert _same(ema.module, model)
    before = model.backbone.stem[0].weight.detach().clone()
    model.train()
    model.loss(model(image(2, 3, 32, 32))).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    ema.update_parameters(model)  # copies the first time
    model.loss(model(image(2, 3, 32, 32))).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    ema.update_parameters(model)
    averaged = ema.module.backbone.stem[0].weight
    assert not torch.equal(averaged, before)
    assert not torch.equal(averaged, model.backbone.stem[0].weight)
    assert all(t.isfinite().all() for t in _flat(ema.module.eval()(image(2, 3, 32, 32))))


def test_under_data_parallel() -> None:
    model = _prepared().model
    wrapped = nn.DataParallel(model)
    assert _same(wrapped, model)
    assert [k.removeprefix("module.") for k in wrapped.state_dict()] == list(model.state_dict())


def test_a_model_that_comes_wrapped() -> None:
    wrapped = nn.DataParallel(Detector())
    x = image(2, 3, 32, 32)
    prepared = prepare(
        wrapped,
        (x,),
        qconfig="horizon_qat",
        modules={"module.backbone": {}, "module.head": {"quantize_input": False}},
    )
    prepared.model(x)
    set_stage(prepared, "eval")
    assert isinstance(prepared.model, nn.DataParallel)
    assert all(t.isfinite().all() for t in _flat(prepared.model(x)))


def test_under_distributed_data_parallel(tmp_path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        model = _prepared().model.train()
        wrapped = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):
            model.zero_grad()
            model.loss(wrapped(image(2, 3, 32, 32))).backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_state_dicts_go_round_through_every_stage() -> None:
    first = _prepared()
    state = copy.deepcopy(first.model.state_dict())
    for stage in ("calibration", "qat", "eval"):
        again = _prepared()
        again.model.load_state_dict(state)
        set_stage(again, stage)
        kept = again.model.state_dict()
        assert list(kept) == list(state)
        moved = [
            k for k in kept
            if not k.endswith(("_enabled",)) and not torch.equal(kept[k], state[k])
        ]  # fmt: skip
        assert moved == []
    floats = Detector().state_dict()
    assert [k for k in state if k in floats] == list(floats)

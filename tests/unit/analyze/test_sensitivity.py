from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from qatspec.analyze import Suggestion, by_metric, by_noise, patch, patched_leaves, sites
from qatspec.prepare import prepare, prepare_spec
from qatspec.spec import load

COMMON = ("--allow-code", "--workdir", "work")
PLANTED = (2, 5)


def plant(net: nn.Sequential, index: int) -> None:
    """One channel far out of the others' range, which nobody reads: it costs the tensor's scale."""
    with torch.no_grad():
        net[index][0].bias[1] += 100
        net[index + 1][0].weight[:, 1] = 0


@pytest.fixture
def planted(settled):
    """(prepared net with two bad layers, its input)."""
    layers = [nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()) for _ in range(9)]
    net = nn.Sequential(*layers, nn.Conv2d(6, 2, 1))
    for module in net.modules():  # as much signal at the end as at the beginning
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    for index in PLANTED:
        plant(net, index)
    x = torch.randn(4, 6, 16, 16)
    return settled(net, x), x


def test_planted_layers_rank_first(planted):
    prepared, x = planted
    found = by_noise(prepared, [(x[:2],), (x[2:],)])
    names = [harm.site.name for harm in found.harms]
    assert set(names[:2]) == {"2.0", "5.0"}
    assert {harm.site.name for harm in found.standing_out()} == {"2.0", "5.0"}
    assert len(names) == 11  # ten convs, and the input
    losses = [harm.loss for harm in found.harms]
    assert losses == sorted(losses, reverse=True)
    assert found.harms[0].measured < found.harms[2].measured - 10
    assert found.quantized < found.harms[0].measured


def test_planted_layers_are_what_would_help_most(planted):
    prepared, x = planted
    found = by_noise(prepared, [(x,)], only="float")
    assert {harm.site.name for harm in found.harms[:2]} == {"2.0", "5.0"}
    assert found.harms[0].measured > found.quantized


def test_a_metric_ranks_them_too(planted):
    prepared, x = planted
    with torch.no_grad():
        from qatspec.analyze.sensitivity import _Switches

        with _Switches(prepared).on(()):
            real = prepared.model(x)

    def measure() -> float:
        with torch.no_grad():
            return 100 * float((prepared.model(x).argmax(1) == real.argmax(1)).float().mean())

    found = by_metric(prepared, measure)
    assert found.in_float == 100
    assert {harm.site.name for harm in found.harms[:2]} == {"2.0", "5.0"}
    assert [h.site.name for h in found.standing_out(at_least=101)] == []


def test_the_model_is_left_as_it_was(planted):
    prepared, x = planted
    with torch.no_grad():
        before = prepared.model(x)
        by_noise(prepared, [(x,)])
        assert torch.equal(before, prepared.model(x))


def test_a_module_called_several_times_is_one_site(settled):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.tail = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            y = self.conv(x)
            return self.tail(torch.mul(self.conv(y), y))

    x = torch.randn(1, 4, 4, 4)
    found = {site.name: site for site in sites(settled(Shared(), x))}
    assert len(found["conv"].calls) == 2
    assert len([p for p in found["conv"].fake_quants if "weight" not in p]) == 2
    assert found[":mul"].calls[0].names[0] == "mul"
    assert found["tail"].fake_quants == ("tail.weight_fake_quant",)


def decided(spec, stage="qat"):
    from qatspec.registry import registry

    model = registry().model(spec.model.type).build(spec.model.params)
    return prepare_spec(spec, stage, model).decisions


@pytest.mark.parametrize("march", ["bayes", "bernoulli2"])
def test_the_written_rules_are_obeyed(copy, march):
    if march != "bayes":  # another march leaves other ops in float: its results are others
        copy.run(f"march={march}")
    target = copy.folder / f"patch-{march}.yaml"
    result = copy.call(
        "sensitivity", "toy.yaml", "--set", f"march={march}", "--top", "1", "--images", "4",
        "--output", str(target), "--format", "json", *COMMON,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["format"] == 1 and len(data["modules"]) == 4
    (suggestion,) = data["suggestions"]
    assert suggestion["remedy"] == {"bayes": "qint16", "bernoulli2": "float"}[march]
    assert suggestion["module"] == next(
        m["module"] for m in data["modules"] if m["op"] != "placeholder"
    )
    validated = copy.call("validate", str(target), "--allow-code")
    assert validated.returncode == 0, validated.stderr
    copy.load()
    for stage in ("calibration", "qat"):
        before = decided(copy.load(), stage)
        after = decided(load(target, (), allow_code=True), stage)
        for node, decision in after.items():
            if decision.module != suggestion["module"]:
                assert decision.activation == before[node].activation
            elif march == "bayes":
                assert decision.activation.dtype == "qint16"
                assert decision.weight == before[node].weight
            else:
                assert decision.weight is None and decision.kind.computes_in_float
    text = target.read_text()
    assert text.startswith("# Rules suggested by `qatspec sensitivity toy.yaml`.")
    assert ("convert` refuses" in text) == (march == "bernoulli2")


def test_the_command(finished):
    result = finished.call("sensitivity", "toy.yaml", "--images", "4", *COMMON)
    assert result.returncode == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "stem.0" in result.stdout and "toy.yaml:" in result.stdout
    assert "only the named module quantized, by sqnr" in result.stdout
    metric = finished.call(
        "sensitivity", "toy.yaml", "--images", "4", "--metric", "accuracy", *COMMON
    )
    assert metric.returncode == 0 and "100.00 in float" in metric.stdout
    wrong = finished.call("sensitivity", "toy.yaml", "--images", "2", "--metric", "AP", *COMMON)
    assert wrong.returncode == 2 and "accuracy" in wrong.stderr


def rules(project, qconfig: str):
    """The toy spec whose qat stage has `qconfig`, and a suggestion for its first conv."""
    project.edit("qconfig: horizon_calibrated", f"qconfig: {qconfig}")
    spec = project.load()
    prepared = prepare_spec(spec, "qat", _model(spec))
    site = next(s for s in sites(prepared) if s.name == "stem.0")
    return spec, Suggestion(site, "qint16")


def _model(spec):
    from qatspec.registry import registry

    return registry().model(spec.model.type).build(spec.model.params)


@pytest.mark.parametrize(("convert", "raised"), [("{opset: 17}", True), ("{}", False)])
def test_an_opset_that_cannot_hold_16_bits_is_raised(project, convert, raised):
    project.edit("convert: {}", f"convert: {convert}")
    spec, suggestion = rules(project, "horizon_calibrated")
    content = patch(spec, "toy.yaml", "toy-patch", [suggestion])
    assert content["stages"].get("convert") == ({"opset": 21} if raised else None)
    floats = patch(spec, "toy.yaml", "toy-patch", [Suggestion(suggestion.site, "float")])
    assert "convert" not in floats["stages"]


@pytest.mark.parametrize(
    ("qconfig", "kind"),
    [
        ("horizon_calibrated", "module_name"),
        ('{"": horizon_calibrated, module_name: {head: horizon_calibrated}}', "module_name"),
        (
            '{"": horizon_calibrated, object_type: {torch.nn.Conv2d: horizon_calibrated}}',
            "module_name_object_type_order",
        ),
        (
            '{"": horizon_calibrated, module_name_regex: [["stem.*", horizon_calibrated]]}',
            "module_name_object_type_order",
        ),
    ],
)
def test_a_suggestion_wins_over_every_rule_that_is_there(project, qconfig, kind):
    spec, suggestion = rules(project, qconfig)
    content = patch(spec, "toy.yaml", "toy-patch", [suggestion])
    assert kind in content["stages"]["qat"]["quantize"]["qconfig"]
    leaves = patched_leaves(spec, "qat", [suggestion])
    shape = torch.zeros(1, 3, 16, 16)
    prepared = prepare(_model(spec), (shape,), qconfig=None, modules=leaves, march="bayes")
    dtypes = {
        d.module: d.activation.dtype for d in prepared.decisions.values() if d.weight is not None
    }
    assert dtypes == {"stem.0": "qint16", "stem.3": "qint8", "head": "qint8"}

"""What holds after each planning pass, and faults in a pass that the checks notice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from qatspec.backend import assemble, checks, pipeline, plan
from qatspec.backend.encode import decode
from qatspec.backend.fuse import Effort, fuse
from qatspec.backend.groups import Groups
from qatspec.backend.layers import group
from qatspec.backend.network import Network
from qatspec.backend.place import place_values
from qatspec.backend.plan import LEVELS
from qatspec.backend.schedule import schedule
from qatspec.diag import DiagnosticError
from qatspec.types import HostCpu
from tests.unit.backend.test_fuse import chain, random_net


@pytest.fixture
def checking(monkeypatch):
    monkeypatch.setenv(checks.VARIABLE, "1")


@pytest.mark.parametrize("seed", range(12))
def test_every_pass_holds_its_rules_on_random_nets(checking, net, target, seed):
    program = random_net(net, seed)
    kinds = sorted({op.kind for op in program.ops} - {"conv"})
    host = HostCpu(ops={kinds[0]: "none"}, elements_per_us=100, start_us=10)
    for onchip, opt in ((1 << 20, "O2"), (24 * 1024, "O3"), (9 * 1024, "ddr"), (5 * 1024, "O1")):
        for march in (target(onchip), target(onchip, host=host)):
            with tolerated():
                assemble(program, march, opt=opt, batch=1 + seed % 3, verify=False)


@contextmanager
def tolerated():
    """A layer may not fit."""
    try:
        yield
    except DiagnosticError as error:
        assert {d.code for d in error.diagnostics} == {"QS802"}


def test_the_variable_switches_the_checks(net, target, monkeypatch):
    seen = []
    monkeypatch.setattr(checks, "check_schedule", lambda events, compiled: seen.append("schedule"))
    monkeypatch.setattr(checks, "check_views", lambda net: seen.append("views"))
    assemble(chain(net), target(), opt="O1", verify=False)
    assert seen == []
    monkeypatch.setenv(checks.VARIABLE, "1")
    assemble(chain(net), target(), opt="O1", verify=False)
    assert seen == ["views", "schedule"]


#: What every level tries, in this order: depth, fused, weight of traffic; sizes of memory; what is
#: best. A change of it is a change of what users get for an `opt`.
PLANS = {
    "O0": ([(1, False, 0.5)], 1, "both"),
    "O1": ([(2, False, 0.5)], 1, "both"),
    "O2": ([(2, True, 0.5), (2, False, 0.5)], 16, "both"),
    "O3": ([(2, True, 0.5), (2, True, 1.0), (2, True, 0.0), (2, False, 0.5)], 16, "latency"),
    "ddr": ([(2, True, 1.0), (2, True, 0.5)], 1, "traffic"),
    "fast": ([(2, True, 0.0), (2, True, 0.5)], 16, "latency"),
    "balance": ([(2, True, 0.5)], 2, "both"),
}


@pytest.mark.parametrize("opt", PLANS)
def test_each_level_runs_its_passes_in_one_order(net, target, monkeypatch, opt):
    """The passes that a level runs, with their efforts, are those above, the same every time."""
    efforts, sizes, best = PLANS[opt]
    level = LEVELS[opt]
    assert [(e.depth, e.fuse, e.traffic) for e in level.efforts] == efforts
    assert (level.sizes, level.best) == (sizes, best) and set(PLANS) == set(LEVELS)
    passes = {(plan, "fuse"), (plan, "place_values"), (plan, "schedule")}
    passes |= {(pipeline, name) for name in ("legalise", "group", "emit", "encode")}
    calls: list[tuple] = []

    def noted(name, function):
        def call(*arguments, **named):
            effort = next((a for a in arguments if isinstance(a, Effort)), None)
            calls.append((name, effort))
            return function(*arguments, **named)

        return call

    for module, name in passes:
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    runs = []
    for _ in range(2):
        artifact = assemble(chain(net), target(24 * 1024), opt=opt, verify=False)
        runs.append((list(calls), artifact.to_bytes()))
        calls.clear()
    assert runs[0] == runs[1]
    names = [name for name, _ in runs[0][0]]
    assert names[:2] == ["legalise", "group"] and names[-1] == "encode"
    order = {"fuse": "place_values", "emit": "schedule"}
    after = dict.fromkeys(order.values(), 0)
    for name, following in pairwise(names[2:]):
        if name in order and following != name:
            after[order[name]] += following == order[name]
    assert all(after.values())
    tried = list(dict.fromkeys((e.depth, e.fuse, e.traffic) for n, e in runs[0][0] if n == "fuse"))
    assert [e for e in tried if e in efforts] == efforts


@pytest.fixture
def planned(net, target):
    program, march = chain(net), target(48 * 1024)
    layers = group(program, march)
    facts = Network.of(program, march, pipeline.lay_out(program, march), layers)
    effort = Effort(depth=2)
    groups = fuse(Groups(facts), 40 * 1024, effort)
    return facts, groups, place_values(facts, groups, 40 * 1024, effort)


def test_faults_of_fuse_are_noticed(planned):
    facts, groups, _ = planned
    checks.check_groups(groups, facts)
    assert len(groups) > 1
    with pytest.raises(checks.PassError, match="begins at"):
        checks.check_groups(groups[1:], facts)
    with pytest.raises(checks.PassError, match="groups end at"):
        checks.check_groups(groups[:-1], facts)
    with pytest.raises(checks.PassError, match="strips"):
        checks.check_groups([*groups[:-1], replace(groups[-1], steps=1000)], facts)
    with pytest.raises(checks.PassError, match="CPU"):
        checks.check_groups([replace(groups[0], mode="host"), *groups[1:]], facts)


def test_faults_of_place_are_noticed(planned):
    facts, _, placed = planned
    checks.check_placement(placed, facts, 48 * 1024)
    with pytest.raises(checks.PassError, match="bytes of"):
        checks.check_placement(placed, facts, placed.onchip_bytes - 1)
    with pytest.raises(checks.PassError, match="in the order"):
        checks.check_placement(replace(placed, stages=placed.stages[::-1]), facts, 48 * 1024)
    busy = next(s for s in placed.stages if len(list(checks._pieces(s, facts))) > 1)
    root = next(iter(busy.rings))
    others = [a for a, size in checks._pieces(busy, facts) if size and a not in busy.rings[root]]
    busy.rings[root] = [others[0]]
    with pytest.raises(checks.PassError, match="overlap"):
        checks.check_placement(placed, facts, 48 * 1024)


def test_a_queue_of_constants_is_checked_chunk_by_chunk(net, target):
    """Chunks may follow each other in one piece of memory, and none may lie in that of a value."""
    made = net()
    x = made.conv(made.conv(made.input(16, 12, 12), 128, stride=2), 128)
    program, march = made.finish(made.conv(x, 64)), target(112 * 1024)
    layers = group(program, march)
    facts = Network.of(program, march, pipeline.lay_out(program, march), layers)
    effort = Effort(depth=2)
    placed = place_values(facts, fuse(Groups(facts), 112 * 1024, effort), 112 * 1024, effort)
    checks.check_placement(placed, facts, 112 * 1024)
    queues = [s for s in placed.stages if s.arranged is not None and s.arranged.queued]
    sizes = [stage.arranged.slot * len(stage.slots) for stage in queues]
    assert max(sizes) > 112 * 1024
    stage = queues[0]
    stage.slots[-1] = next(iter(stage.rings.values()))[0] if stage.rings else placed.keeps[0][1]
    with pytest.raises(checks.PassError, match="overlap"):
        checks.check_placement(placed, facts, 112 * 1024)


def test_faults_of_views_are_noticed(planned):
    facts, _, _ = planned
    checks.check_views(facts)
    name, home = next(iter(facts.homes.items()))
    moved = {**facts.homes, name: replace(home, channel=home.channel + 1000)}
    with pytest.raises(checks.PassError, match="does not lie within"):
        checks.check_views(replace(facts, homes=moved))


def test_faults_of_schedule_are_noticed(net, target):
    compiled = decode(assemble(chain(net), target(), verify=False))
    events = schedule(compiled)
    checks.check_schedule(events, compiled)
    with pytest.raises(checks.PassError, match="two things"):
        checks.check_schedule([replace(e, start=0.0) for e in events], compiled)
    with pytest.raises(checks.PassError, match="bytes in"):
        checks.check_schedule([replace(e, moved=e.moved + 10**6) for e in events], compiled)
    with pytest.raises(checks.PassError, match="backwards"):
        checks.check_schedule([replace(events[0], end=-1.0), *events[1:]], compiled)


def test_faults_of_tile_are_noticed(planned):
    facts, _, placed = planned
    checks.check_tiles(placed, facts)
    stage = next(s for s in placed.stages if s.arranged is not None and s.arranged.held)
    arranged, (k, *_) = stage.arranged, stage.arranged.held
    stage.arranged = replace(arranged, held=())
    with pytest.raises(checks.PassError, match="lacks constants"):
        checks.check_tiles(placed, facts)
    stage.arranged = replace(arranged, chunks={k: facts.channels(k)}, slot=1, slots=2)
    with pytest.raises(checks.PassError, match="holds and streams"):
        checks.check_tiles(placed, facts)
    held = tuple(other for other in arranged.held if other != k)
    stage.arranged = replace(arranged, held=held, chunks={k: facts.channels(k)}, slot=1, slots=2)
    with pytest.raises(checks.PassError, match="exceed their slot"):
        checks.check_tiles(placed, facts)


def test_faults_of_passes_over_channels_are_noticed(net, target):
    made = net()
    x = made.conv(made.input(8, 4, 4), 64, kernel=1)
    program, march = made.finish(made.conv(x, 48)), target(12 * 1024)
    layers = group(program, march)
    facts = Network.of(program, march, pipeline.lay_out(program, march), layers)
    effort = Effort(depth=2)
    placed = place_values(facts, fuse(Groups(facts), 12 * 1024, effort), 12 * 1024, effort)
    checks.check_tiles(placed, facts)
    stage = next(s for s in placed.stages if s.passes is not None)
    tile = stage.passes
    stage.passes = replace(tile, constants=tile.constants - 1)
    with pytest.raises(checks.PassError, match="exceed their slot"):
        checks.check_tiles(placed, facts)
    stage.passes = replace(tile, channels=0)
    with pytest.raises(checks.PassError, match="channels a pass"):
        checks.check_tiles(placed, facts)


def test_faults_of_cost_are_noticed(net, target):
    compiled = decode(assemble(chain(net), target(), verify=False))
    events = schedule(compiled)
    checks.check_cost(events, compiled)
    short = [replace(e, end=e.start + 0.4 * (e.end - e.start)) for e in events]
    with pytest.raises(checks.PassError, match="in parts"):
        checks.check_cost(short, compiled)

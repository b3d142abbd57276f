"""Performance reports keep the vendor's relations and are the same for the same bin."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from qatspec.backend import assemble, perf, write_perf
from qatspec.backend.encode import decode
from qatspec.backend.perf import perf_page
from qatspec.backend.schedule import latency_us
from qatspec.diag import DiagnosticError
from qatspec.page import template
from qatspec.program import Artifact
from qatspec.types import HostCpu


@pytest.fixture
def summary(full, target):
    return perf(assemble(full, target(16 * 1024)))["summary"]


def test_relations_of_the_vendors_report(summary):
    latency = summary["latency (ms)"]
    assert summary["FPS"] == pytest.approx(summary["frame per run"] / latency * 1e3, rel=1e-5)
    assert summary["run per second"] == pytest.approx(1e3 / latency, rel=1e-5)
    moved = summary["DDR bytes per frame"]
    assert moved == summary["loaded bytes per frame"] + summary["stored bytes per frame"]
    assert summary["DDR megabytes per frame"] == pytest.approx(moved / 2**20, abs=1e-6)
    assert summary["DDR bytes per second"] == pytest.approx(
        moved * summary["run per second"], rel=1e-5
    )
    assert summary["latency (us)"] == pytest.approx(1e3 * latency, abs=2e-3)


def test_ops_are_twice_the_multiply_accumulates(net, target):
    made = net()
    x = made.input(3, 8, 8)
    program = made.finish(made.conv(made.conv(x, 4), 4, groups=4))
    summary = perf(assemble(program, target()))["summary"]
    expected = 2 * (8 * 8 * 4 * 27 + 8 * 8 * 4 * 9)
    assert summary["BPU OPs per frame (effective)"] == expected


def test_layer_details_have_the_vendors_header_and_add_up(summary):
    header, *rows = summary["layer details"]
    assert header == ["layer", "ops", "computing cost (no DDR)", "load/store cost"]
    total = sum(int(row[1].replace(",", "")) for row in rows)
    assert total == summary["BPU OPs per frame (effective)"]
    for row in rows:
        assert all(re.fullmatch(r"0|(<1|\d+) us \(\d+\.\d% of model\)", cost) for cost in row[2:])


def test_intervals_integrate_to_the_totals(summary):
    seconds = summary["interval time (ms)"] / 1e3
    loaded = sum(summary["interval loading bandwidth (megabytes/s)"]) * seconds * 2**20
    assert loaded == pytest.approx(summary["loaded bytes per frame"], rel=1e-3)
    used = summary["interval computing unit(s) utilization"]
    assert len(used) == summary["interval number"]
    assert all(0 <= u <= 1.000001 for u in used)


def test_a_large_convolution_runs_at_the_arrays_rate(net, target):
    made = net()
    x = made.input(64, 64, 64)
    program = made.finish(made.conv(x, 64, kernel=1))
    fast = target(1 << 22, ddr_bytes_per_us=1e9, start_overhead_us=0.0, run_overhead_us=0.0)
    summary = perf(assemble(program, fast))["summary"]
    macs = 64 * 64 * 64 * 64
    assert summary["latency (us)"] == pytest.approx(macs / 256 / 1000, rel=1e-3)


def test_width_is_padded_to_8(net, target):
    def latency(width):
        made = net()
        x = made.input(64, 64, width)
        program = made.finish(made.conv(x, 64, kernel=1))
        fast = target(1 << 22, ddr_bytes_per_us=1e9, start_overhead_us=0.0)
        return perf(assemble(program, fast))["summary"]["latency (us)"]

    assert latency(14) == pytest.approx(latency(16), rel=1e-3)
    assert latency(17) > 1.3 * latency(16)


def test_the_same_bin_gives_the_same_files(full, target, tmp_path):
    artifact = assemble(full, target())
    files = write_perf(artifact, tmp_path / "a")
    again = write_perf(Artifact.from_bytes(artifact.to_bytes()), tmp_path / "b")
    assert [f.name for f in files] == ["a.perf.json", "a.perf.html"]
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    assert json.loads(files[0].read_text()) == perf(artifact)


def test_the_page_is_self_contained_and_says_what_it_is(net, target, tmp_path):
    made = net('<script>alert("x")</script>')
    program = made.finish(made.conv(made.input(3, 16, 16), 8))
    _, page = write_perf(assemble(program, target()), tmp_path / "x")
    text = page.read_text()
    assert "<script>alert" not in text and text.count("<script") == 4
    assert "default-src 'none'" in text and "src=" not in text.partition("<script")[0]
    assert "modelled by qatspec from public figures, not measured" in text
    for part in ("roofline", "memory on chip over time", 'id="spills"', 'data-table="layer-table"'):
        assert part in text, part


def test_the_page_of_a_command_is_the_one_that_compile_writes(full, target, tmp_path):
    artifact = assemble(full, target())
    _, page = write_perf(artifact, tmp_path / "x")
    assert page.read_text() == perf_page(artifact)


def test_without_what_draws_charts_a_file_has_its_page_all_the_same(
    full, target, tmp_path, monkeypatch
):
    """`compile` needs no extra; the command that is asked for charts names it."""
    artifact = assemble(full, target())
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    template._library.cache_clear()
    _, page = write_perf(artifact, tmp_path / "x")
    text = page.read_text()
    assert "qatspec[report]" in text and '<div class="chart"' not in text
    assert 'id="spills"' in text and 'data-table="layer-table"' in text
    with pytest.raises(DiagnosticError, match="QS921"):
        perf_page(artifact)
    template._library.cache_clear()


def test_the_script_of_charts_is_put_together_once(full, target, tmp_path, monkeypatch):
    """The next command takes it from the user's cache, also where that cannot be written."""
    vl_convert = pytest.importorskip("vl_convert")
    calls = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda call: calls.append(call) or "draw")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        template._library.cache_clear()
        assert template._library(True) == "draw"
    assert len(calls) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    template._library.cache_clear()
    assert template._library(True) == "draw" and len(calls) == 2
    template._library.cache_clear()


def test_a_march_without_a_model_of_time(full, target, tmp_path):
    artifact = assemble(full, target())
    other = Artifact(
        march="onnxruntime", inputs=artifact.inputs, outputs=artifact.outputs, sections={}
    )
    assert write_perf(other, tmp_path / "x") == ()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiagnosticError, match="QS805"):
        perf(other)


@pytest.mark.parametrize("onchip", [1 << 20, 64 * 1024, 16 * 1024])
def test_a_frame_on_two_cores_is_no_slower_than_on_one(full, target, onchip):
    """At any level, also where levels prefer fewer bytes among plans that take nearly as long."""
    for opt in ("O1", "O2", "O3", "ddr", "balance"):
        one, two = (
            latency_us(decode(assemble(full, target(onchip), opt=opt, cores=cores, verify=False)))
            for cores in (1, 2)
        )
        assert two <= one, opt


def test_a_frame_on_each_core_is_bounded_by_cores_and_ddr(full, target):
    for rate, share in ((1e9, 2.0), (1000, None)):
        summary = perf(assemble(full, target(ddr_bytes_per_us=rate)))["summary"]
        saturated, alone = summary["FPS, a frame on each core"], summary["FPS"]
        assert alone <= saturated <= 2 * alone * 1.000001
        if share:
            assert saturated == pytest.approx(share * alone, rel=1e-6)
    two = perf(assemble(full, target(), cores=2))["summary"]
    assert two["FPS, a frame on each core"] == two["FPS"]


def test_a_batch_loads_constants_and_starts_layers_once(full, noise, target):
    """The integers are those of each frame, constants pass once a run, and a frame takes less."""
    march = target(1 << 20)
    one, four = (assemble(full, march, batch=batch) for batch in (1, 4))
    ints = noise(full, 6)
    for got, wanted in zip(four.run(*ints), one.run(*ints), strict=True):
        assert np.array_equal(got, wanted)
    alone, batched = (perf(artifact)["summary"] for artifact in (one, four))
    assert batched["frame per run"] == 4 and alone["frame per run"] == 1
    assert batched["FPS"] == pytest.approx(4e6 / batched["latency (us)"])
    assert 1.1 * alone["FPS"] < batched["FPS"] < 4 * alone["FPS"]
    assert batched["BPU OPs per run (working)"] == 4 * alone["BPU OPs per run (working)"]
    assert batched["DDR bytes per run"] < 4 * alone["DDR bytes per run"]
    assert batched["DDR bytes per frame"] == batched["DDR bytes per run"] // 4
    assert four.manifest["options"] == {"opt": "O2", "cores": 1, "batch": 4}
    again = perf(Artifact.from_bytes(four.to_bytes()))["summary"]
    assert again == batched


def test_a_layer_that_fits_for_fewer_frames_alone_names_the_batch(full, target):
    with pytest.raises(DiagnosticError, match="QS802") as caught:
        assemble(full, target(24 * 1024), batch=500)
    assert "a smaller `batch` than 500" in caught.value.diagnostics[0].help


def test_a_file_with_no_frame_a_run_is_refused(full, target):
    artifact = assemble(full, target(), batch=2)
    memory = json.loads(artifact.sections["memory"])
    broken = {**artifact.sections, "memory": json.dumps({**memory, "frames": 0}).encode()}
    with pytest.raises(DiagnosticError, match="QS811"):
        perf(replace(artifact, sections=broken))


def test_the_tail_on_the_cpu_is_counted_beside_the_latency(full, target):
    """Every number of the outputs is read and written once; a march without a CPU states none."""
    host = HostCpu(ops={}, elements_per_us=10, start_us=3)
    key = "tail on the CPU, not in the latency (ms)"
    without, beside, two = (
        perf(assemble(full, march, batch=batch))["summary"]
        for march, batch in ((target(), 1), (target(host=host), 1), (target(host=host), 2))
    )
    numbers = sum(int(np.prod(port.shape)) for port in full.outputs)
    assert without[key] == 0
    assert beside[key] == pytest.approx((3 + 2 * numbers / 10) / 1e3, abs=1e-6)
    assert two[key] == pytest.approx((3 + 4 * numbers / 10) / 1e3, abs=1e-6)
    assert beside["latency (us)"] == without["latency (us)"]

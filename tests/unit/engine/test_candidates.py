"""A stage in several variants: each with its own results, the best one as the stage's."""

from __future__ import annotations

import json
import statistics
import subprocess

import jsonschema
import pytest

from qatspec.diag import DiagnosticError
from qatspec.engine import candidates as engine_candidates, record as records
from qatspec.engine.candidates import choose, groups_of
from qatspec.engine.foreseeing import trials_of_candidates
from qatspec.plan import plan_data, plan_table, status
from qatspec.report import charts, tables
from qatspec.report.gathered import gather
from qatspec.report.page import Section, render
from qatspec.schema.load import summary_schema
from tests.unit.engine.test_execute import STAGES, Killed, statuses, tree as every_file

TRIED = """\
    candidates:
      wild: {trainer: {optimizer: {lr: 1.0, weight_decay: 1.0}}}
      calm: {trainer: {optimizer: {lr: 0.002}}}
"""
STARTS = "    init_from: [last, {epoch: 1}]\n"
SEEDS = "    seeds: [0, 1]\n"
QAT = "    qconfig: horizon_calibrated\n"


def tree(folder) -> dict[str, str]:
    """Digests of results, those of candidates too."""
    return {k: v for k, v in every_file(folder).items() if "/logs/" not in k and ".lock" not in k}


def write(project, *keys: str) -> None:
    project.edit(QAT, QAT + "".join(keys))


def steps(project) -> dict[str, str]:
    plan = project.plan()
    data = plan_data(plan, status(plan, project.workdir))["steps"]
    (qat,) = (step for step in data if step["name"] == "qat")
    return {
        f"{one['name']}/{step['name']}": step["state"] + " " + step["does"]
        for one in qat["candidates"]
        for step in one["steps"]
    }


def trained(project) -> list[str]:
    return [e.step for e in project.events if e.kind == "step_started"]


def of_candidate(project, name: str):
    return project.workdir / "candidates" / f"qat-{name}"


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A project whose qat was run in four variants: two settings, two checkpoints."""
    from tests.conftest import Project

    project = Project(tmp_path_factory.mktemp("tried") / "project")
    write(project, TRIED, STARTS)
    project.summary = project.run()
    return project


@pytest.fixture
def again(tried, tmp_path):
    """A copy of it."""
    import shutil

    from tests.conftest import Project

    project = Project(tmp_path / "project")
    shutil.copytree(tried.folder, project.folder, symlinks=True, dirs_exist_ok=True)
    return project


def test_the_best_candidate_is_the_result_of_the_stage(tried):
    said = tried.summary["tried"]
    names = ["wild-last", "wild-epoch-1", "calm-last", "calm-epoch-1"]
    assert [one["name"] for one in said["candidates"]] == names
    metrics = {one["name"]: one["metrics"]["accuracy"] for one in said["candidates"]}
    assert metrics["wild-last"] < metrics["calm-last"] == max(metrics.values())
    assert said["chosen"] == "calm-last"
    assert tried.summary["metrics"]["qat"]["accuracy"] == metrics["calm-last"]
    folder = of_candidate(tried, "calm-last") / "qat"
    for path in sorted((tried.workdir / "qat").glob("*.pth.tar")):
        assert path.read_bytes() == (folder / path.name).read_bytes()
    jsonschema.Draft202012Validator(dict(summary_schema())).validate(tried.summary)


def test_the_report_tells_what_candidates_differ_in_and_how_they_trained(tried):
    run = gather(tried.workdir)
    settings = {name: dict(rows) for name, rows in tables.settings_of_candidates(run).items()}
    lr = "trainer/optimizer/lr"
    assert {name: rows[lr] for name, rows in settings.items()} == {
        "wild-last": 1.0, "wild-epoch-1": 1.0, "calm-last": 0.002, "calm-epoch-1": 0.002,
    }  # fmt: skip
    assert set(settings["calm-last"]) == {lr, "trainer/optimizer/weight_decay"}  # no digests
    loss, metric = charts.of_candidates(run)
    assert metric["title"] == "candidates of qat: accuracy"
    for chart in (loss, metric):
        assert {row["name"] for row in chart["data"]["values"]} == set(settings)
    last = {row["name"]: row["value"] for row in metric["data"]["values"]}
    assert last["calm-last"] == tried.summary["metrics"]["qat"]["accuracy"]
    page = render([Section(run=run)]).split('<script type="application/json"')[0]
    part = page.split(">Candidates of qat</h2>")[1].split("<h2")[0]
    assert part.count(f"<code>{lr}</code> 0.002") == 2 and part.count('class="chart"') == 2


def test_the_report_leaves_out_a_candidate_whose_folder_has_another_result(again):
    path = again.workdir / "summary.json"
    summary = json.loads(path.read_text())
    for row in summary["tried"]["candidates"]:
        row["digest"] = "0" * 64 if row["name"] == "calm-last" else row["digest"]
    path.write_text(json.dumps(summary))
    run = gather(again.workdir)
    (gone,) = (one for one in run.candidates if one.name == "calm-last")
    assert not gone.keys and not gone.history
    assert {row["name"] for row in charts.of_candidates(run)[0]["data"]["values"]} == {
        "wild-last", "wild-epoch-1", "calm-epoch-1",
    }  # fmt: skip


def test_equals_give_the_first_one_and_seeds_count_together():
    rows = [
        {"name": f"{g}-{s}", "group": g, "metrics": {"m": value}}
        for g, s, value in [("a", 0, 9.0), ("a", 1, 1.0), ("b", 0, 6.0), ("b", 1, 6.0)]
    ]
    assert choose(rows, "m") == "b-0"
    groups = groups_of(rows)
    assert [g["mean"]["m"] for g in groups] == [5.0, 6.0]
    assert groups[0]["spread"]["m"] == pytest.approx(statistics.stdev([9.0, 1.0]))
    assert choose(rows[:1] + rows[2:3], "m") == "a-0"
    assert groups_of(rows[:1] + rows[2:3]) == []


def test_a_second_run_is_cached_and_the_plan_shows_every_candidate(again):
    assert statuses(again.run()) == [(name, "cached") for name in STAGES]
    assert {state.split()[0] for state in steps(again).values()} == {"cached"}
    plan = again.plan()
    table = plan_table(plan, status(plan, again.workdir))
    assert "  calm-epoch-1: calibration  cached" in table
    assert "  wild-last " in table
    assert "last: calibration" not in table  # the spec's own calibration starts from the first


def test_only_a_changed_candidate_is_trained_again(again):
    before = tree(again.workdir)
    again.edit("weight_decay: 1.0", "weight_decay: 1.5")
    assert [k for k, v in steps(again).items() if not v.startswith("cached")] == [
        "wild-last/qat",
        "wild-epoch-1/qat",
    ]
    again.run()
    assert [s for s in trained(again) if s.startswith("qat/")] == [
        "qat/wild-last",
        "qat/wild-epoch-1",
    ]
    after = tree(again.workdir)
    assert {k: v for k, v in after.items() if k.startswith("convert/")} == {
        k: v for k, v in before.items() if k.startswith("convert/")
    }


def test_a_killed_candidate_resumes_with_the_same_bytes(project, tried):
    write(project, TRIED, STARTS)

    def die(event) -> None:
        if (event.kind, event.step, event.data.get("done")) == ("progress", "qat/calm-last", 4):
            raise Killed

    with pytest.raises(Killed):
        project.run(on_event=die)
    assert steps(project)["calm-last/qat"] == "run resumes at epoch 1, step 4"
    assert steps(project)["wild-epoch-1/qat"].startswith("cached")
    project.run()
    assert "qat/wild-last" not in trained(project)
    assert tree(project.workdir) == tree(tried.workdir)


@pytest.mark.parametrize("call", [1, 2])
def test_a_run_that_ends_while_the_result_is_copied_is_completed(again, tried, monkeypatch, call):
    import shutil

    shutil.rmtree(again.workdir / "qat")
    calls = []
    real = engine_candidates.save_bytes if call == 1 else records.write

    def die(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise Killed
        return real(*arguments)

    where = (engine_candidates, "save_bytes") if call == 1 else (engine_candidates.records, "write")
    monkeypatch.setattr(*where, die)
    with pytest.raises(Killed):
        again.run()
    assert not (again.workdir / "qat" / "step.json").exists()
    again.run()
    assert [s for s in trained(again) if s.startswith("qat/")] == []
    assert tree(again.workdir) == tree(tried.workdir)
    assert not any("damaged" in p.name for p in again.workdir.glob(".kept/*"))


@pytest.mark.slow
def test_candidates_in_parallel_processes_give_the_same_bytes(project, tried):
    write(project, TRIED, STARTS)
    project.run(jobs=2)
    for name in ("wild-last", "wild-epoch-1", "calm-last", "calm-epoch-1"):
        one, other = of_candidate(project, name) / "qat", of_candidate(tried, name) / "qat"
        assert tree(one) == tree(other)
    assert tree(project.workdir / "qat") == tree(tried.workdir / "qat")
    assert {e.step for e in project.events if e.kind == "metrics"} >= {"qat/calm-last"}


@pytest.mark.slow
def test_what_fails_in_one_process_stops_all(project):
    write(project, TRIED.replace("lr: 1.0,", "lr: 1.0e+30,"))
    done = project.command("run", "toy.yaml", "--allow-code", "--jobs", "2")
    assert done.returncode == 1
    assert "error[QS609]" in done.stderr or "error[QS904]" in done.stderr
    assert not (project.workdir / "qat" / "step.json").exists()


def test_a_candidate_is_the_spec_with_its_values(project, tried):
    project.edit("lr: 0.001", "lr: 0.002")
    project.edit(QAT, QAT + "    seed: 3\n")
    project.edit(
        "calibration: {trainer: {steps: 4}",
        "calibration: {solver: {pre_step_checkpoint: {epoch: 1}}, trainer: {steps: 4}",
    )
    plan, planned = project.plan(), tried.plan()
    candidate = next(c for c in planned.candidates if c.name == "calm-epoch-1")
    assert plan.step("calibration").digest == candidate.plan.step("calibration").digest
    assert plan.step("qat").digest == candidate.plan.step("qat").digest
    project.run(step="qat", with_deps=True)
    ours = tree(project.workdir / "qat")
    assert ours == tree(of_candidate(tried, "calm-epoch-1") / "qat")


def test_later_stages_are_those_of_the_chosen_candidate(project):
    write(
        project,
        "    candidates:\n      fixed: {trainer: {optimizer: {lr: 1.0, weight_decay: 1.0}}}\n"
        "      moving: {qconfig: horizon_qat}\n",
    )
    summary = project.run()
    assert summary["tried"]["chosen"] == "moving"
    program = (project.workdir / "convert/toy.program").read_bytes()
    binary = (project.workdir / "compile/toy.bin").read_bytes()
    assert statuses(project.run()) == [(name, "cached") for name in STAGES]
    assert project.call("compare", "toy.yaml", "--allow-code", "--workdir", "work").returncode == 0
    project.spec.write_text((project.spec.parent / "toy.yaml").read_text())
    text = project.spec.read_text()
    start = text.index("    candidates:")
    end = text.index("  convert:")
    plain = text[:start] + text[end:]
    project.spec.write_text(plain.replace("horizon_calibrated", "horizon_qat"))
    project.run()
    assert (project.workdir / "convert/toy.program").read_bytes() == program
    assert (project.workdir / "compile/toy.bin").read_bytes() == binary


def test_other_data_to_judge_by_chooses_again_and_trains_nothing(again):
    again.edit("val: {type: toy_corners, batch_size: 8}", "val: {type: toy_corners, batch_size: 4}")
    again.edit("batch_size: 4}", "batch_size: 4, params: {count: 5}}")
    summary = again.run()
    assert not [e for e in again.events if e.kind == "progress" and "loss" in e.data]
    assert dict(statuses(summary))["qat"] == "run"
    assert summary["tried"]["chosen"].startswith("calm")


def test_seeds_give_mean_and_spread(project):
    write(project, SEEDS, "    candidates: {calm: {}}\n")
    summary = project.run(step="qat", with_deps=True)
    (group,) = summary["tried"]["groups"]
    values = [one["metrics"]["accuracy"] for one in summary["tried"]["candidates"]]
    assert [one["name"] for one in summary["tried"]["candidates"]] == ["calm-seed-0", "calm-seed-1"]
    assert group["mean"]["accuracy"] == pytest.approx(statistics.fmean(values))
    one, other = (of_candidate(project, f"calm-seed-{n}") / "qat" for n in (0, 1))
    name = "qat-checkpoint-last.pth.tar"
    assert (one / name).read_bytes() != (other / name).read_bytes()
    done = project.call("run", "toy.yaml", "--allow-code", "--workdir", "work")
    assert "calm, mean of 2 seeds" in done.stdout
    assert "±" in done.stdout


@pytest.mark.parametrize("stage", ["float", "calibration"])
def test_other_stages_have_candidates_too(project, stage):
    old = {"float": "  float:\n", "calibration": "  calibration: {"}[stage]
    new = {
        "float": "  float:\n    candidates: {a: {}, b: {trainer: {ema: null}}}\n",
        "calibration": "  calibration: {init_from: [best, last, {epoch: 2}], ",
    }[stage]
    project.edit(old, new)
    summary = project.run()
    assert summary["tried"]["stage"] == stage
    assert statuses(project.run()) == [(name, "cached") for name in STAGES]


def test_a_smoke_run_tries_the_candidates(project):
    write(project, TRIED, STARTS)
    summary = project.run(smoke=True)
    assert len(summary["tried"]["candidates"]) == 4
    smoke = project.workdir.with_name("work-smoke")
    steps_of = json.loads((smoke / "candidates/qat-calm-last/qat/step.json").read_text())
    assert "smoke" in steps_of["keys"]
    assert not project.workdir.exists()


def test_other_commands_read_a_candidate_by_name(again):
    ours = ("--allow-code", "--workdir", "work")
    shown = again.call("compare", "toy.yaml", *ours, "--candidate", "wild-last")
    assert shown.returncode == 0, shown.stderr
    assert "candidate wild-last" in shown.stdout
    chosen = again.call("compare", "toy.yaml", *ours)
    assert "candidate calm-last" in chosen.stdout
    judged = again.call("eval", "toy.yaml", *ours, "--stage", "qat", "--candidate", "wild-last")
    assert judged.returncode == 0, judged.stderr
    wrong = again.call("eval", "toy.yaml", *ours, "--stage", "qat", "--candidate", "wild-lost")
    assert wrong.returncode == 2
    assert "wild-last" in wrong.stderr
    page = again.call("report", "work", "--output", "page.html")
    assert page.returncode == 0, page.stderr
    text = (again.folder / "page.html").read_text()
    assert "Candidates of qat" in text
    assert "calm-epoch-1" in text


@pytest.mark.slow
def test_two_processes_run_each_candidate_together(project, request):
    write(project, TRIED)
    done = project.command("run", "toy.yaml", "--allow-code", "--workdir", "work", "--nproc", "2")
    assert done.returncode == 0, done.stderr
    summary = json.loads((project.workdir / "summary.json").read_text())
    assert summary["tried"]["chosen"] == "calm"
    if request.config.getoption("full"):
        again = ("run", "toy.yaml", "--allow-code", "--workdir", "two", "--nproc", "2")
        assert project.command(*again).returncode == 0
        assert tree(project.folder / "two") == tree(project.workdir)
    refused = subprocess.run(
        project.command_line("run", "toy.yaml", "--allow-code", "--nproc", "2", "--jobs", "2"),
        cwd=project.folder, text=True, capture_output=True, check=False, timeout=300,
        env=project.environment(),
    )  # fmt: skip
    assert refused.returncode == 2
    assert "--jobs" in refused.stderr


@pytest.mark.parametrize("known", ["nothing", "float"])
def test_rules_of_a_candidate_are_tried_before_anything_trains(project, known):
    if known == "float":
        project.run(step="float")
    write(
        project,
        "    candidates:\n      calm: {trainer: {optimizer: {lr: 0.002}}}\n"
        "      frozen: {trainer: {freeze: [nothing.of.this.name]}}\n",
    )
    with pytest.raises(DiagnosticError) as refused:
        project.run()
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "QS962"
    assert "candidate `frozen`" in diagnostic.notes[-1].text
    assert not list(project.workdir.glob("candidates/*/*/*.pth.tar"))
    assert not list(project.workdir.glob("qat/*.pth.tar"))
    assert (project.workdir / "float" / "step.json").exists() == (known == "float")


def test_a_trial_of_candidates_is_not_repeated(project):
    write(
        project,
        "    candidates:\n      a: {trainer: {optimizer: {lr: 0.002}, epochs: 3}}\n"
        "      b: {trainer: {grad_clip: 2.0}}\n      c: {qconfig: horizon_qat}\n",
        SEEDS,
    )
    plan = project.plan()
    later = ("calibration", "qat", "convert", "compile")

    def trials(first):
        made = trials_of_candidates(plan, project.workdir, later, first)
        return [(trial.candidate.name, trial.first, trial.later) for trial in made]

    behind = ("convert", "compile")
    assert trials("float") == [
        ("b-seed-0", "float", ("calibration", "qat")),
        ("c-seed-0", "float", ("calibration", "qat", *behind)),
    ]
    assert trials(None) == [
        ("a-seed-0", "qat", behind),
        ("b-seed-0", "qat", ()),
        ("c-seed-0", "qat", behind),
    ]

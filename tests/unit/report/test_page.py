"""The page of a run: what it says, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from qatspec.picture import ModelInput
from qatspec.plan.details import details_path
from qatspec.report import charts, tables
from qatspec.report.gathered import gather, gather_all
from qatspec.report.page import command, of_classes
from qatspec.report.pictures import difference, picture_of
from qatspec.spec import InputSpec
from tests.conftest import Project


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """A project with a report of its run, in `work/report.html`; treat as read-only."""
    folder = tmp_path_factory.mktemp("reported") / "project"
    shutil.copytree(finished.folder, folder)
    project = Project(folder)
    result = project.call("report", "work", "--allow-code", "--images", "4", "--spec", "toy.yaml")
    assert result.returncode == 0, result.stderr
    project.page = (project.workdir / "report.html").read_text()
    return project


def embedded(page: str, name: str):
    """The JSON that the page embeds under an id."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_the_page_shows_each_part_of_a_run(reported):
    body = reported.page.split('<script type="application/json"')[0]
    for heading in ("Stages", "Metrics", "Curves", "Modules", "Histograms", "Graph", "Pictures",
                    "Chip", "Spec", "Files and environment"):  # fmt: skip
        assert re.search(rf"<h2 id=\"[^\"]+\">{heading}</h2>", body), heading
    assert "convert/toy.program" in body and "float has 100.00 accuracy" in body
    assert re.search(r"<td><code>toy\.yaml:\d+</code></td>", body)  # the rule of a module
    assert body.count('<img src="data:image/jpeg;base64,') == 8
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", body)
    assert "qat: loss" in titles and "float: learning rate" in titles and "stem_0" not in titles
    assert len(embedded(reported.page, "charts")) == body.count('<div class="chart"')


def test_it_needs_no_other_file_and_is_small(reported):
    assert len(reported.page.encode()) < 5_000_000
    body = reported.page.replace(reported.page.split("<script>")[1], "")  # the library's comments
    outside = [*re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", body), *re.findall("url\\(", body)]
    assert outside == []
    assert "default-src 'none'" in body


def test_rows_have_noise_range_and_shares_of_time(reported, finished):
    table = reported.page.split('id="run-1-module-table"')[1].split("</table>")[0]
    cells = [re.findall(r'data-value="([^"]*)"', row) for row in table.split("<tr>")[2:]]
    for column in (3, 4):  # time, traffic
        assert sum(float(row[column] or 0) for row in cells) == pytest.approx(100)
    assert all(float(row[0]) > 10 for row in cells if row[0])  # dB
    run = gather(finished.workdir)
    rows = {row.node: row for row in tables.modules(run, None, None, lambda pointer: "spec:1")}
    decided = next(d for d in run.decisions if d["op"] == "conv2d" and d["fake_quant"])
    row = rows[decided["node"]]
    assert (row.rule, row.activation, row.weight) == ("spec:1", "qint8", "qint8")
    assert row.low < 0 < row.high and row.fake_quant_db is None
    assert -row.low / row.high == pytest.approx(128 / 127)


def test_classes_are_those_of_the_whole_set(reported):
    """The report was made of 4 pictures; the run evaluated all 32."""
    part = reported.page.split(">Classes</h2>")[1].split("<h2")[0]
    assert "On all 32 images" in part
    cells = re.findall(r"<td>bottom left</td>(.*?)</tr>", part)[0]
    assert re.findall(r'data-value="([^"]+)"', cells) == ["100.0", "100.0"]
    titles = re.findall(r"<figcaption>(confusion.*?)</figcaption>", part)
    assert titles == ["confusion, float", "confusion, integer"]
    counts = [c["data"]["values"] for c in embedded(reported.page, "charts").values()
              if c.get("mark") == {"type": "rect"}]  # fmt: skip
    assert [sum(row["count"] for row in rows) for rows in counts] == [32, 32]


@pytest.mark.parametrize("damage", ["other metrics", "gone"])
def test_classes_of_another_checkpoint_are_not_shown(finished, tmp_path, damage):
    folder = tmp_path / "work"
    shutil.copytree(finished.workdir, folder)
    assert gather(folder).details.keys() == {"float", "integer"}
    path = details_path(folder, "convert")
    if damage == "gone":
        path.unlink()
    else:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "metrics": {"accuracy": 12.5}}))
    run = gather(folder)
    assert run.details.keys() == {"float"}
    assert not of_classes(run, None).of_run


def curves_of(count: int, precision: float):
    points = [(i / 100, precision) for i in range(101)]
    return {"curves": {f"class {i}": points for i in range(count)}}


def test_of_many_classes_those_that_lost_most_are_drawn_beside_the_mean():
    real, integer = curves_of(80, 0.8), curves_of(80, 0.8)
    integer["curves"]["class 33"] = [(r, 0.1) for r, _ in integer["curves"]["class 33"]]
    (chart,) = charts.of_classes({"float": real, "integer": integer}, ())
    rows = chart["data"]["values"]
    names = list(dict.fromkeys(row["class"] for row in rows))
    assert names[:2] == ["mean of 80", "class 33"] and len(names) == 9
    mean = {row["what"]: row["precision"] for row in rows if row["class"] == "mean of 80"}
    assert mean == {"float": 0.8, "integer": pytest.approx(0.8 - 0.7 / 80, abs=1e-4)}
    assert len(json.dumps(rows)) < 50_000
    (few,) = charts.of_classes({"float": curves_of(3, 0.5)}, ())
    assert {row["class"] for row in few["data"]["values"]} == {"class 0", "class 1", "class 2"}


def test_the_command_makes_the_run_again(reported):
    run = gather(reported.workdir)
    assert command(run).startswith("qatspec run /") and "toy.yaml" in command(run)
    assert run.summary["spec"]["resolved"].startswith("qatspec: 1")


def test_names_of_a_run_cannot_end_a_script(finished):
    run = gather(finished.workdir, "</script><script>alert(1)</script>")
    from qatspec.report.page import Section, render

    page = render([Section(run=run, unmeasured="<b>")])
    assert "<script>alert" not in page and "&lt;b&gt;" in page


def test_runs_stand_side_by_side(finished, tmp_path):
    shutil.copytree(finished.workdir, tmp_path / "a/run")
    shutil.copytree(finished.workdir, tmp_path / "b/run")
    record = tmp_path / "b/run/qat/step.json"
    said = json.loads(record.read_text())
    from qatspec.plan.results import CHECKSUM, checksum

    said["keys"]["/seed"] = 4
    del said[CHECKSUM]
    record.write_text(json.dumps({**said, CHECKSUM: checksum(said)}))
    runs = gather_all([tmp_path / "a/run", tmp_path / "b/run"])
    assert [run.name for run in runs] == ["a/run", "b/run"]
    assert tables.differing_keys(runs) == [("/seed", [3, 4])]
    from qatspec.report.page import Section, render

    digest = runs[1].keys["/seed"] = "0123456789abcdef" * 4
    page = render([Section(run=run) for run in runs])
    assert f'<td>3</td><td><span title="{digest}">0123456789ab…</span></td>' in page
    curves = {chart["title"]: chart for chart in charts.curves(runs)}
    assert {row["run"] for row in curves["qat: loss"]["data"]["values"]} == {"a/run", "b/run"}
    encoding = curves["qat: learning rate"]["encoding"]  # one curve a run: told apart by colour
    assert encoding["color"]["field"] == "run" and "strokeDash" not in encoding


def test_several_curves_of_several_runs_are_told_apart_by_dashes():
    rows = [{"run": run, "name": name, "step": step, "value": 1.0}
            for run in "ab" for name in ("loss", "cls") for step in (1, 2)]  # fmt: skip
    encoding = charts._curve("float: loss", "loss", rows)["encoding"]
    assert (encoding["color"]["field"], encoding["strokeDash"]["field"]) == ("name", "run")
    alone = charts._curve("float: loss", "loss", rows[:2])["encoding"]
    assert alone["color"]["legend"] is None
    long = [{**row, "name": row["name"] * 12} for row in rows]
    assert charts._curve("t", "y", long)["encoding"]["color"]["legend"]["columns"] == 1


def test_long_curves_are_averaged():
    points = [(step, float(step)) for step in range(1, 10 * charts.POINTS + 1)]
    thinned = list(charts._thinned(points))
    assert len(thinned) == charts.POINTS and thinned[0] == (10, 5.5) and thinned[-1][0] == 4000


@pytest.mark.parametrize("form", ["rgb", "bgr", "yuv444", "gray"])
def test_a_picture_is_what_the_input_was_made_of(form):
    rng = np.random.default_rng(0)
    small = rng.integers(40, 200, (4, 5, 3)).astype(np.uint8)
    from PIL import Image

    image = Image.fromarray(small).resize((20, 16), Image.Resampling.BICUBIC)
    image = image.convert("L").convert("RGB") if form == "gray" else image
    channels = 1 if form == "gray" else 3
    mean = (90.0, 100.0, 110.0)[:channels]
    given = InputSpec(size=(16, 20), channels=channels, format=form, mean=mean, std=58.0)
    fed = ModelInput(size=(16, 20), format=form, mean=mean, std=58.0).normalize(image)
    distance = np.abs(np.asarray(picture_of(fed, given), int) - np.asarray(image, int))
    assert distance.max() <= (3 if form == "yuv444" else 0)


def boxes(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(int)}


def test_how_much_predictions_differ():
    one, other = (0, 0, 10, 10, 0.9, 1), (20, 20, 30, 30, 0.8, 1)
    faint = (50, 50, 60, 60, 0.1, 1)
    assert difference(boxes(one, other), boxes(other, one, faint)) == 0
    assert difference(boxes(one), boxes((0, 0, 10, 10, 0.9, 2))) == 1
    assert difference(boxes(one, other), boxes(one)) == pytest.approx(1 / 3)
    assert difference(boxes(), boxes()) == 0
    mask = np.zeros((2, 2), int)
    assert difference({"mask": mask}, {"mask": np.array([[0, 1], [0, 0]])}) == 0.25
    scores = {"label": np.array(0), "scores": np.array([0.9, 0.1])}
    assert difference(scores, {**scores, "scores": np.array([0.7, 0.3])}) == pytest.approx(0.2)
    assert difference(scores, {**scores, "label": np.array(1)}) == 1
    assert difference({"depth": mask}, {"depth": mask}) is None


def test_a_run_whose_spec_is_gone_is_reported_without_measurements(reported, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(reported.folder, folder)
    path = folder / "work/summary.json"
    summary = json.loads(path.read_text())
    summary["spec"]["path"] = str(folder / "gone.yaml")
    path.write_text(json.dumps(summary))
    result = Project(folder).call("report", "work", "--output", "page.html")
    assert result.returncode == 0 and "QS980" in result.stderr and "gone.yaml" in result.stderr
    page = (folder / "page.html").read_text()
    assert "Curves</h2>" in page and "Pictures</h2>" not in page and "gone.yaml" in page


@pytest.mark.parametrize("words", [("report", "work"), ("check", "toy.yaml", "--picture", "g.svg")])
def test_a_package_that_is_missing_is_told_before_anything_is_measured(
    finished, monkeypatch, words
):
    import importlib.util

    real = importlib.util.find_spec

    def find_spec(name, *args):
        return None if name == "grandalf" else real(name, *args)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    for measuring in ("qatspec.cli.report._measure", "qatspec.cli.check._prepare"):
        monkeypatch.setattr(measuring, lambda *args: pytest.fail("it was measured"))
    result = finished.call(*words, "--allow-code")
    assert result.returncode == 1 and "QS921" in result.stderr
    assert "pip install 'qatspec[report]'" in result.stderr


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_in_a_browser(reported, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{reported.workdir / 'report.html'}")
    page.wait_for_selector("body[data-drawn]")
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(c => c.querySelector('svg.marks') !== null)"
    )
    assert drawn and all(drawn)
    targets = page.evaluate(
        "[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) !== null)"
    )
    assert targets and all(targets)

    # by keyboard alone: search, sort, zoom
    rows = page.locator("#run-1-module-table tbody tr:visible")
    before = rows.count()
    page.focus("input[type=search]")
    page.keyboard.type("conv2d head")
    assert rows.count() == 1 < before
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.focus("#run-1-module-table th:nth-child(5) button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    header = page.locator("#run-1-module-table th:nth-child(5)")
    assert header.get_attribute("aria-sort") == "descending"
    values = page.evaluate(
        "[...document.querySelectorAll('#run-1-module-table tbody td:nth-child(5)')]"
        ".map(c => c.dataset.value).filter(v => v !== '').map(Number)"
    )
    assert len(values) > 1 and values == sorted(values, reverse=True)
    size = "document.querySelector('.graph svg').clientWidth"
    narrow = page.evaluate(size)
    page.focus(".graph")
    page.keyboard.press("+")
    assert page.evaluate(size) > narrow
    page.select_option(".tools select", "noise")
    assert page.locator(".graph.by-noise").count() == 1
    page.close()

"""A model card: what a run records of its model, as Markdown beside the published files."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qatspec.diag.words import file_size
from qatspec.report.gathered import Run
from qatspec.report.tables import verdict

_UNKNOWN = "not recorded"
#: Kinds of files that describe the run itself.
_OWN_RECORDS = ("decisions", "history")


def card(run: Run) -> str:
    """Return the model card of a run: front matter as model hubs read it, the verdict, metrics of
    each stage, what is quantized, the data, the files with their hashes, and the environment.

    What a run cannot know (intended use, licences, limits of the data) is listed at the end, for
    the author to add.
    """
    summary = run.summary
    sections = [
        _front_matter(run),
        f"# {summary['spec']['name']}\n\n{verdict(run)}",
        f"## Metrics\n\n{_metrics(summary)}",
        f"## Quantization\n\n{_quantization(run)}",
        f"## Data\n\n{_data(run)}",
        f"## Files\n\n{_files(summary)}",
        f"## Made by\n\n{_made_by(run)}",
        "## To be added by the author\n\nA run does not know the intended use, the licences of "
        "data and weights, where the data come from, and on what the model was not evaluated.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(run: Run) -> str:
    """YAML of the keys that model hubs read; JSON texts are YAML."""
    tags = ["quantization", "qat", f"march-{_march(run)}"]
    lines = [f"  - {json.dumps(tag, ensure_ascii=False)}" for tag in tags]
    return "\n".join(["---", "library_name: qatspec", "tags:", *lines, "---"])


def _march(run: Run) -> str:
    performance = run.summary["performance"]
    return str(performance[0]["march"] if performance else run.keys.get("/march", "none"))


def _metrics(summary: Mapping[str, Any]) -> str:
    results = summary["metrics"]
    if not results:
        return "No stage has been evaluated."
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    rows = []
    for result, metrics in results.items():
        delta = summary["delta_to_float"].get(result, {})
        cells = [_figure(metrics.get(name), delta.get(name)) for name in names]
        rows.append([result, *cells])
    return _table(["result", *names], rows)


def _figure(value: float | None, delta: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if delta is None else f"{value:.2f} ({delta:+.2f})"


def _quantization(run: Run) -> str:
    dtypes: Counter[tuple[str, str]] = Counter()
    for decision in run.decisions:
        if decision["fake_quant"] or decision["weight"]:
            activation = decision["activation"] if decision["fake_quant"] else None
            dtypes[_dtype(activation), _dtype(decision["weight"])] += 1
    if not dtypes:
        return "No stage has quantized the model."
    rows = [[a, w, str(count)] for (a, w), count in dtypes.most_common()]
    table = _table(["activations", "weights", "layers"], rows)
    return f"Symmetric, zero point 0 (`quint8`: 0 to 255).\n\n{table}"


def _dtype(qspec: Mapping[str, Any] | None) -> str:
    return str(qspec["dtype"]) if qspec else "-"


def _data(run: Run) -> str:
    roles = dict.fromkeys(
        key.split("/")[2] for key in run.keys if key.startswith("/data/") and key.count("/") > 2
    )
    rows = [[role, str(run.keys.get(f"/data/{role}/type", _UNKNOWN)), _fingerprint(run, role)]
            for role in roles]  # fmt: skip
    if not rows:
        return "The run records no data."
    return _table(["role", "data set", "digest of its contents"], rows)


def _fingerprint(run: Run, role: str) -> str:
    others = None if role == "val" else run.keys.get("data:train")  # the role has train's data
    value = run.keys.get(f"data:{role}", others)
    return f"`{str(value)[:12]}`" if value else _UNKNOWN


def _files(summary: Mapping[str, Any]) -> str:
    rows = []
    for artifact in summary["artifacts"]:
        if artifact["kind"] in _OWN_RECORDS or _is_intermediate(artifact):
            continue
        exact = {True: "bit-exact", False: "not bit-exact", None: ""}[artifact["bit_exact"]]
        against = ": ".join(filter(None, (exact, artifact["compared"])))
        size = file_size(artifact["size"])
        rows.append([f"`{artifact['path']}`", size, f"`{artifact['sha256']}`", against])
    return _table(["file", "size", "sha256", "against the Program"], rows)


def _is_intermediate(artifact: Mapping[str, Any]) -> bool:
    """Return whether a file is a checkpoint other than the best one of qat."""
    best = artifact["path"] == "qat/qat-checkpoint-best.pth.tar"
    return artifact["kind"] == "checkpoint" and not best


def _made_by(run: Run) -> str:
    environment, spec = run.summary["environment"], run.summary["spec"]
    packages = ", ".join(f"{name} {v}" for name, v in environment["packages"].items())
    lines = [
        f"- qatspec {environment['qatspec']}, Python {environment['python']}, {packages}",
        f"- {environment['platform']}, {environment['nproc']} x {environment['device']}, "
        f"{environment['threads']} threads",
        f"- digest of the plan `{spec['digest']}`",
    ]
    if "path" in spec:
        sets = [word for line in spec.get("overrides", ()) for word in ("--set", line)]
        sets += ["--smoke"] if spec.get("smoke") else []
        name = spec["path"].rpartition("/")[2]
        lines.append(f"- `{shlex.join(['qatspec', 'run', name, *sets])}`")
    seconds = sum(step["seconds"] for step in run.summary["steps"])
    lines.append(f"- {seconds:.0f} seconds in {len(run.summary['steps'])} stages")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines([head, ["---"] * len(head), *rows]))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"

"""Examples that stand at the end of each command's help. A test runs every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: command -> command lines; `digits.yaml` is a spec whose run is in runs/digits
EXAMPLES: Mapping[str, Sequence[str]] = {
    "new": ("qatspec new quickstart", "qatspec new pictures --output . --march bernoulli2"),
    "import-hat": ("qatspec import-hat fcos_config.py --march bayes",),
    "validate": ("qatspec validate digits.yaml", "qatspec validate digits.yaml --format sarif"),
    "show": ("qatspec show digits.yaml --places",),
    "plan": (
        "qatspec plan digits.yaml",
        "qatspec plan digits.yaml --set vars.lr=0.01",
    ),
    "diff": ("qatspec diff digits.yaml other.yaml",),
    "migrate": ("qatspec migrate digits.yaml",),
    "explain": ("qatspec explain QS201", "qatspec explain digits.yaml stem"),
    "check": ("qatspec check digits.yaml --picture graph.svg",),
    "run": ("qatspec run digits.yaml", "qatspec run digits.yaml --step qat --device cpu"),
    "convert": (
        "qatspec convert digits.yaml --qat-model-path runs/digits/qat/qat-checkpoint-best.pth.tar "
        "--output-dir out --march bernoulli2",
    ),
    "eval": ("qatspec eval digits.yaml --stage integer",),
    "infer": (
        "qatspec infer digits.yaml --model runs/digits/compile/digits.bin --input photos "
        "--output drawn",
    ),
    "compare": ("qatspec compare digits.yaml --images 8",),
    "sensitivity": ("qatspec sensitivity digits.yaml --images 8 --output better.yaml",),
    "report": ("qatspec report runs/digits", "qatspec report runs/digits --card"),
    "perf": (
        "qatspec perf digits.yaml --march all",
        "qatspec perf runs/digits/compile/digits.bin --trace trace.json --page perf.html",
    ),
    "advise": ("qatspec advise digits.yaml --march bernoulli2 --tries 4",),
    "disasm": ("qatspec disasm runs/digits/compile/digits.bin",),
    "schema": ("qatspec schema --output qatspec.schema.json",),
    "plugins list": ("qatspec plugins list",),
    "plugins show": ("qatspec plugins show fcos",),
    "plugins check": ("qatspec plugins check demo",),
    "plugins new": ("qatspec plugins new my_models --kind model",),
    "completion": ('eval "$(qatspec completion bash)"',),
}

"""The context that every stage receives, and the outcome that it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS918, QS965
from qatspec.files import in_both
from qatspec.graph import Prepared
from qatspec.plan.checkpoints import checkpoint_path, is_intact
from qatspec.plan.provided import placed
from qatspec.prepare import prepare_spec
from qatspec.prepare.inputs import example_inputs, forward_inputs
from qatspec.registry import registry
from qatspec.registry.recorder import judging
from qatspec.spec import Spec
from qatspec.train.checkpoint import Checkpoint, load
from qatspec.train.distributed import ALONE, Processes
from qatspec.train.evaluate import Predict
from qatspec.train.loader import Loader
from qatspec.train.protocol import check_dataset, check_model
from qatspec.train.samples import Inputs
from qatspec.types import Dataset, PixelSample, Sample, TaskModel

Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """How a file's integers compare with the Program's: equal, or how far apart at most.
    compared: what of the file was run, and on how much."""

    bit_exact: bool
    max_lsb: int
    compared: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """metrics: of the model that the stage made (empty where it makes none to be judged).
    outputs: files, within the stage's folder; exact: file name -> how it was verified.
    gives: what a later stage may take ("best", "last", "program") -> its sha256."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    exact: Mapping[str, Exactness] = field(default_factory=dict)
    gives: Mapping[str, str] = field(default_factory=dict)


def build_model(spec: Spec) -> nn.Module:
    """The model that the spec names, freshly initialised from torch's generator, on the CPU.

    Raises PluginFault where the plugin raises, or what it builds is no model (QS010)."""
    definition = registry().model(spec.model.type, spec.model.at)
    with registry().attribute_errors(definition, f"building model `{definition.name}`"):
        model = definition.build(spec.model.params)
    return check_model(definition, model)


@dataclass(kw_only=True)
class Context:
    """One stage's surroundings.

    workdir    where finished stages lie; folder: where this one writes.
    source     the stage that this one starts from, None for the first.
    digests    {"step", "evaluation"} of this run: a checkpoint of another step is not resumed.
    locate     tells where the results of a stage lie; None: in `<workdir>/<stage>`.
    limit      at most so many examples of each data set (smoke runs), None: all.
    profile    report where the time of a training went.
    examples   inputs of forward, one example each, that files are compared on; None: some of
               data.val.
    """

    spec: Spec
    stage: str
    workdir: Path
    folder: Path
    source: str | None
    digests: Mapping[str, str]
    device: torch.device
    seed: int
    group: Processes = ALONE
    limit: int | None = None
    profile: bool = False
    examples: tuple[tuple[torch.Tensor, ...], ...] | None = None
    report: Report = lambda kind, data: None
    locate: Callable[..., Path] | None = None

    def results(self, stage: str, *files: str) -> Path:
        """The folder with the results of a stage. files: what is going to be read of them, if it is
        there; anything, unless given."""
        return self.locate(stage, files) if self.locate else self.workdir / stage

    def alone(self) -> Context:
        """This context for what rank 0 does by itself, while the other processes wait. It shares
        the opened data sets and the warnings that were reported."""
        context = replace(self, group=ALONE)
        vars(context).update(_datasets=self._datasets, _told=self._told)
        return context

    def build_model(self) -> nn.Module:
        """The float model, freshly initialised from the stage's seed, on the CPU."""
        torch.manual_seed(self.seed)
        return build_model(self.spec)

    def decoder(self) -> Predict:
        """What turns raw outputs into predictions; it has no weights of its own."""
        return cast(TaskModel, self.build_model().eval()).predict

    def prepare(
        self,
        stage: str,
        *,
        trained_for: str | None = None,
        load: Callable[[nn.Module], None] | None = None,
    ) -> Prepared:
        """The model prepared with the quantization of `stage`; its warnings are reported.
        trained_for: the march whose scales it will take, None: the spec's. load: puts weights into
        the float model first."""
        model = self.build_model()
        if load is not None:
            load(model)
        prepared: Prepared = prepare_spec(self.spec, stage, model, trained_for=trained_for)
        self.warn(prepared.warnings)
        return prepared

    def warn(self, warnings: Iterable[Diagnostic]) -> None:
        """Report warnings."""
        for warning in warnings:
            self.report("log", {"message": warning.message, "diagnostic": warning})

    @property
    def cache(self) -> Path:
        """The folder in which data sets that are built have their files, below `data`."""
        return self.group.scratch or self.workdir

    @cached_property
    def inputs(self) -> Inputs:
        """The model's inputs by name, in the order of forward. Raises DiagnosticError QS520."""
        if "" in self.spec.inputs:
            return self.spec.inputs
        with torch.random.fork_rng():
            return forward_inputs(self.spec, build_model(self.spec))

    @cached_property
    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes, of one example."""
        return example_inputs(self.inputs, 1)

    def loader(self, role: str, batch_size: int | None = None) -> Loader:
        """Batches of data.<role>: the stage's own batch size, else the role's. Random changes of
        validation data are the same in every stage, whose metrics are compared."""
        data = self.spec.data[role]
        return Loader(
            self.dataset(role),
            batch_size=batch_size or data.batch_size,
            seed=self.spec.seed if role == "val" else self.seed,
            workers=data.workers,
            pinned=self.device.type == "cuda",
            rank=self.group.rank,
            world=self.group.world,
            skip_broken=data.broken == "skip",
            warn=self._warn_once,
            definition=registry().dataset(data.dataset.type, data.dataset.at),
            judges=role == "val",
            inputs=self.inputs,
        )

    def dataset(self, role: str) -> Dataset:
        """data.<role>, opened; built sets are cached in the work directory by one process, and by
        those of other machines in a temporary folder.
        Raises DiagnosticError: QS918, and what opening it raises."""
        with judging(only=role == "val"):
            if self.group.is_main:
                self._open(role)
            self.group.share(None)
            return self._open(role)

    def metric(self) -> str:
        """The key of val's metrics that chooses the best checkpoint."""
        return registry().dataset(self.spec.data["val"].dataset.type).metric

    def source_checkpoint(self, which: str = "best") -> tuple[Checkpoint, Path]:
        """The checkpoint that this stage starts from, which rank 0 reads. Raises DiagnosticError
        QS901, QS905."""
        path = checkpoint_path(self.workdir / str(self.source), str(self.source), which)
        return self.group.from_main(lambda: load(path)), path

    def resumable(self) -> Checkpoint | None:
        """The last checkpoint in this stage's folder, if it is intact and of this step."""
        return cast("Checkpoint | None", self.group.from_main(self._resumable))

    def _resumable(self) -> Checkpoint | None:
        path = checkpoint_path(self.folder, self.stage, "last")
        if not is_intact(path):
            return None
        checkpoint = load(path)
        return checkpoint if checkpoint.digests.get("step") == self.digests.get("step") else None

    def _warn_once(self, diagnostic: Diagnostic) -> None:
        """Report a warning, unless an earlier epoch had it."""
        if diagnostic not in self._told:
            self._told.append(diagnostic)
            self.warn([diagnostic])

    def _open(self, role: str) -> Dataset:
        if role not in self._datasets:
            component = self.spec.data[role].dataset
            definition = registry().dataset(component.type, component.at)
            base = Path(self.spec.document.path).parent
            try:
                with registry().attribute_errors(definition, f"opening `{definition.name}`"):
                    opened = definition.open(component.params, self.cache / "data", base)
            except DiagnosticError as error:
                raise placed(error, component.at) from error
            check_dataset(definition, opened)
            self.warn(getattr(opened, "diagnostics", ()))
            self._agree(role, opened.classes)
            if self.limit is None:
                self.warn(self._in_both(role, opened))
            self._datasets[role] = opened if self.limit is None else Limited(opened, self.limit)
        return self._datasets[role]

    def _in_both(self, role: str, opened: Dataset) -> list[Diagnostic]:
        """A warning QS965 of pictures that are in data.val and in data that trains. Sets that name
        the same files, all of them, are meant to be the same."""
        roles = {**self._datasets, role: opened}
        trained = next((name for name in ("train", "qat") if name in roles), None)
        if trained is None or "val" not in roles or role not in (trained, "val"):
            return []
        first, second = (getattr(roles[name], "pictures", ()) for name in (trained, "val"))
        pairs = [] if list(first) == list(second) else in_both(first, second)
        if not pairs:
            return []
        mine, other = pairs[0]
        who = "a picture" if len(pairs) == 1 else f"{len(pairs)} of {len(second)} pictures"
        return [
            QS965.warning(
                f"{who} of data.val {'is' if len(pairs) == 1 else 'are'} in data.{trained}, too: "
                f"`{other}` holds the bytes of `{mine}`",
                help="take them out of one of the two: the metric is of pictures that were trained",
                at=self.spec.data["val"].dataset.at,
                notes=(Note(f"data.{trained}", at=self.spec.data[trained].dataset.at),),
            )
        ]

    def _agree(self, role: str, classes: Sequence[str]) -> None:
        """A class has one label in every role. Raises DiagnosticError QS918."""
        labels = _labels(classes)
        for other, opened in self._datasets.items():
            for name, label in _labels(opened.classes).items():
                if labels.get(name, label) != label:
                    raise QS918.error(
                        f"class `{name}` has label {labels[name]} in `{role}` and "
                        f"{label} in `{other}`",
                        help="give both the same classes in the same order: a class without "
                        "pictures moves the labels of those behind it",
                        at=self.spec.data[role].dataset.at,
                    )

    @cached_property
    def _datasets(self) -> dict[str, Dataset]:
        return {}

    @cached_property
    def _told(self) -> list[Diagnostic]:
        return []


def _labels(classes: Sequence[str]) -> dict[str, int]:
    """Class name -> its label, the first where several have the name."""
    labels: dict[str, int] = {}
    for label, name in enumerate(classes):
        labels.setdefault(name, label)
    return labels


class Limited:
    """The first `limit` examples of a data set."""

    def __init__(self, dataset: Dataset, limit: int) -> None:
        self._dataset = self.limited = dataset
        self._length = min(limit, len(dataset))
        self.classes = dataset.classes

    def __len__(self) -> int:
        return self._length

    def begin_epoch(self, epoch: int) -> None:
        if begin := getattr(self._dataset, "begin_epoch", None):
            begin(epoch)

    def sample(self, index: int, rng: Any) -> Sample | PixelSample:
        return self._dataset.sample(index, rng)

    def evaluate(self, predictions: Any) -> dict[str, float]:
        return self._dataset.evaluate(predictions)

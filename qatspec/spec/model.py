"""The Spec: what a YAML file means, as frozen dataclasses. Every node remembers its pointer.

The schema of the spec language is the one place where defaults are written: a field that holds a
key of a spec has no default, or reads the schema's (`default("trainer", "ema")`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from qatspec.language import default
from qatspec.types import PrepareConfig, QConfig

if TYPE_CHECKING:
    from qatspec.source import Document

Params = Mapping[str, Any]
Precedence = Literal["object_type_first", "module_name_first"]
STAGES = ("float", "calibration", "qat", "convert", "compile")
StageName = Literal["float", "calibration", "qat", "convert", "compile"]


def _beside() -> Any:
    return field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A registered thing and its params, defaults filled in. plugin: entry point or file of the
    plugin that registers it, "" where nobody does; it is no part of what the spec says."""

    type: str
    params: Params = field(default_factory=dict)
    plugin: str = _beside()
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """How a picture becomes what the chip is fed.

    size    (H, W) in pixels.
    format  the channels and their order.
    mean    one number, or one for each channel in the order of `format`.
    std     as `mean`; image = (pixel - mean) / std, in float32, before anything is quantized.
    resize  how a picture of another size is fitted; None: as the data set does by itself.
    scale   the fixed quantization scale of the input port, None when it is observed.
    at      JSON pointer of the entry in the spec.
    """

    size: tuple[int, int]
    channels: int = default("input", "channels")
    format: Literal["rgb", "bgr", "yuv444", "gray"] = default("input", "format")
    mean: float | tuple[float, ...] = default("input", "mean")
    std: float | tuple[float, ...] = default("input", "std")
    resize: Literal["letterbox", "stretch"] | None = None
    scale: float | None = default("input", "scale")
    at: str = _beside()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one picture as the model takes it."""
        return (self.channels, *self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input that is not a picture: features, points, the ids of tokens.

    shape  of one example, without the batch.
    dtype  of its numbers; ops that read integers run on the host.
    range  the least and the largest number that it holds; None: any.
    scale  the fixed quantization scale of its port, None when it is observed.
    at     its pointer in the spec.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32", "int32", "int64"] = default("tensor_input", "dtype")
    range: tuple[float, float] | None = None
    scale: float | None = default("tensor_input", "scale")
    at: str = _beside()

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are integers."""
        return self.dtype.startswith("int")


#: One of the model's inputs.
GivenInput = InputSpec | TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRole:
    """One of data.train, data.calibration, data.qat, data.val. broken: what an example that cannot
    be read comes to."""

    dataset: Component
    batch_size: int
    workers: int
    broken: Literal["skip", "error"]
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One qconfig rule. key: "" (global), an op name, a regex, a module path, or
    (module prefix, op name, index) for module_name_object_type_order.
    value None leaves what it matches in float."""

    kind: Literal[
        "global", "object_type", "module_name_regex", "module_name", "module_name_object_type_order"
    ]
    key: Any
    value: QConfig | None
    preset: str | None = None
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class QConfigRules:
    """An ordered set of rules with their precedence; a lone preset is one global rule."""

    rules: tuple[Rule, ...]
    precedence: Precedence = default("qconfig", "precedence")
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleQuant:
    """How one module (or the whole model, path "") is prepared.

    modules excludes the four keys beside it (the community tutorial's rule).
    """

    path: str = ""
    qconfig: QConfigRules | None = None
    prepare: PrepareConfig | None = None
    quantize_input: bool = default("module", "quantize_input")
    quantize_output: bool = default("module", "quantize_output")
    modules: Mapping[str, ModuleQuant] = field(default_factory=dict)
    at: str = _beside()

    def leaves(self) -> tuple[ModuleQuant, ...]:
        """The modules that are really prepared, in order, with absolute paths."""
        if not self.modules:
            return (self,)
        return tuple(leaf for child in self.modules.values() for leaf in child.leaves())


def _scheduler() -> Component:
    return Component(type=default("trainer", "scheduler")["type"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """When a training ends early: after `patience` evaluations in a row whose metric did not exceed
    the best one so far by more than `min_delta` points."""

    patience: int
    min_delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """How a training stage runs. Exactly one of epochs and steps is set.

    batch_norm: whose pictures move the statistics of batch norms: "running" those of each process,
    "synchronized" those of all processes as one batch, "frozen" none.
    grad_clip, clip_value: the largest norm, and the largest value, of the gradient.
    freeze: patterns of parameters and batch norms that do not change.
    freeze_from_epoch: the epoch (from 0) from which none do, whatever batch_norm says.
    accumulate: batches of one optimizer step.
    amp: format of convolutions and matrix products in training; None: float32.
    compile: train by torch.compile.
    channels_last: memory format of 2-d convolutions.
    checkpoint_steps: a resumable checkpoint at least every so many steps (and every epoch).
    """

    epochs: int | None = None
    steps: int | None = None
    optimizer: Component | None = None
    scheduler: Component = field(default_factory=_scheduler)
    ema: float | None = default("trainer", "ema")
    grad_clip: float | None = default("trainer", "grad_clip")
    clip_value: float | None = None
    accumulate: int = default("trainer", "accumulate")
    amp: Literal["bf16", "fp16"] | None = default("trainer", "amp")
    compile: bool = default("trainer", "compile")
    channels_last: bool = default("trainer", "channels_last")
    early_stop: EarlyStop | None = default("trainer", "early_stop")
    batch_norm: Literal["running", "synchronized", "frozen"] = default("trainer", "batch_norm")
    freeze_from_epoch: int | None = None
    freeze: tuple[str, ...] = tuple(default("trainer", "freeze"))
    validate_epochs: int = default("trainer", "validate_epochs")
    checkpoint_steps: int = default("trainer", "checkpoint_steps")
    at: str = _beside()

    @property
    def watches_validation(self) -> bool:
        """Return whether the course of the training depends on its evaluations."""
        return self.early_stop is not None or self.scheduler.type == "plateau"


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    """Where a stage starts from: the community tutorial's <stage>_solver.

    pre_step None: the default predecessor that the spec has. pre_step_checkpoint: best, last or
    epoch-N (four digits), as files are named.
    weights: file that the float model begins with, relative to the spec; entry: that of the file
    which holds them; key_map: how its keys become the model's, "by_order" or (regex, replacement)
    pairs; fresh: patterns of the model's keys that are not loaded.
    """

    pre_step: StageName | None = default("solver", "pre_step")
    pre_step_checkpoint: str = default("solver", "pre_step_checkpoint")
    allow_miss: bool = default("solver", "allow_miss")
    ignore_extra: bool = default("solver", "ignore_extra")
    weights: str | None = default("float_solver", "weights")
    entry: str | None = default("float_solver", "entry")
    key_map: Literal["by_order"] | tuple[tuple[str, str | None], ...] | None = default(
        "float_solver", "key_map"
    )
    fresh: tuple[str, ...] = tuple(default("float_solver", "fresh"))
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. trainer and solver for float, calibration and qat; options for convert (opset)
    and compile (opt and what the march's own schema takes).

    seed        that the stage's random generators start from; None: the spec's.
    candidates  name -> the keys of the stage that a candidate changes; init_from: names of
                checkpoints of float; seeds: of candidates (`qatspec.spec.candidates`).
    """

    name: StageName
    trainer: Trainer | None = None
    solver: Solver = field(default_factory=Solver)
    qconfig: QConfigRules | None = None
    quantize: ModuleQuant | None = None
    batch_size: int | None = None
    options: Params = field(default_factory=dict)
    seed: int | None = None
    candidates: Mapping[str, Params] = field(default_factory=dict)
    init_from: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    at: str = _beside()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One variant of a stage.

    name   "slow-last-seed-1": of the candidate, the checkpoint and the seed, as far as the stage
           tries several. group: the same without the seed.
    spec   the spec in which the stage is that variant, and nothing is tried.
    """

    name: str
    group: str
    spec: Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole spec, with every default filled in. `document` resolves pointers to file:line:col.

    name, march, model, data (by role), quantize and plugins are keys of a spec (schemas/README.md).
    seed is the number from which every random generator starts.
    inputs holds the model's inputs by the names of forward's arguments; `model.input`, which has
    no name, is the only one, under "".
    stages holds those that the file names, in the order of STAGES. quantization(stage) gives the
    modules to prepare with every qconfig filled in (nearest module's, else the stage's).
    tried is the stage that is run in several variants, None where there is none, and candidates
    are those variants in the order of the spec.
    chosen_sizes holds the batch sizes that a run chose where the file says `auto`, by pointer.
    """

    name: str
    march: str
    seed: int
    model: Component
    inputs: Mapping[str, GivenInput]
    data: Mapping[str, DataRole]
    quantize: ModuleQuant
    stages: Mapping[str, Stage]
    plugins: tuple[str, ...]
    document: Document = field(compare=False, repr=False)
    tried: StageName | None = None
    candidates: tuple[Candidate, ...] = field(default=(), compare=False, repr=False)
    chosen_sizes: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def input(self) -> InputSpec | None:
        """The picture that the model takes; None where it takes none, or several."""
        pictures = [given for given in self.inputs.values() if isinstance(given, InputSpec)]
        return pictures[0] if len(pictures) == 1 else None

    def quantization(self, stage: str) -> tuple[ModuleQuant, ...]:
        """Return the prepared modules of `stage`: leaves with absolute path, qconfig and
        prepare set."""
        from qatspec.spec.modules import quantization

        return quantization(self, stage)

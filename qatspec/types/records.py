"""Records that plugins register: frozen and named. Callables are usually
`lazy("module:attribute")`.

Params schemas are JSON Schema 2020-12 objects, closed (`additionalProperties: false`), every
property described; defaults written in the schema are filled in before a callable sees params.

A property that changes what is trained makes the steps that depend on it run again. The keyword
`x-qatspec-affects` marks the others: `"evaluation"` for one that changes metrics and no tensor (a
decoder's threshold): kept epochs are judged again; `false` for one that changes neither, such as
the folder of a data set, whose files count by their contents in its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from qatspec.types.capabilities import Capabilities
from qatspec.types.ops import Example, OpTrait
from qatspec.types.prepare import PrepareConfig
from qatspec.types.qconfig import QConfig
from qatspec.types.views import ArtifactView, OpView, ProgramView

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

Params = Mapping[str, Any]
JSONSchema = Mapping[str, Any]
NO_PARAMS: JSONSchema = {"type": "object", "additionalProperties": False, "properties": {}}


@dataclass(frozen=True, kw_only=True)
class ModelDef:
    """A model that specs name by `model.type`.

    name, summary: for specs and for `qatspec plugins`. params: JSON schema of its params.
    build(params) -> nn.Module obeying the task protocol (qatspec.types.task.TaskModel): forward
    takes images (N, C, H, W) float32 and returns the raw outputs that ship to the chip.
    classes(params) -> how many classes the model tells apart, None where params do not say it; it
    must not import torch. `validate` compares it with the data sets.
    by_name(name) -> LibraryModel: a model of a library by its name there, for `qatspec new --from`.
    Raises DiagnosticError where the library is not installed or does not know the name.
    """

    name: str
    summary: str
    params: JSONSchema
    build: Callable[[Params], torch.nn.Module]
    classes: Callable[[Params], int | None] | None = None
    by_name: Callable[[str], LibraryModel] | None = None


@dataclass(frozen=True, kw_only=True)
class LibraryModel:
    """A classifier of a library by its name there (`qatspec new --from timm:resnet18`).

    params     of the spec's model, with its published weights where there are any. `num_classes` is
               added where the data are known.
    untrained  params that are laid over these where no weights are wanted (`run --smoke`).
    input      keys of `model.input` that the weights were trained with: size, mean, std, ...
    notes      what the user should know of the choice.
    """

    params: Params
    untrained: Params = field(default_factory=dict)
    input: Mapping[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class DatasetDef:
    """A data set that specs name by `data.<role>.type`.

    name, summary: for specs and for `qatspec plugins`. params: JSON schema of its params.
    open(params, cache_dir, base_dir) -> Dataset (qatspec.types.task.Dataset). `cache_dir` is a
    folder of the work directory where sets that are built, not found, are kept; relative paths
    of params are relative to `base_dir`, the spec's folder.
    fingerprint(params, base_dir) -> str: changes when the examples do: `content_digest` of the
    files that they are made of, never of paths. Must not import torch. Raises DiagnosticError on
    missing data. Params that it stands for (`root`) are marked `"x-qatspec-affects": false`.
    metric: the key of evaluate()'s result that chooses the best checkpoint.
    classes(params, base_dir) -> class names in label order, found without opening the set, None
    where that takes long. Must not import torch. Raises DiagnosticError on missing data.
    recognize(folder) -> FoundData where the folder holds a set of this form, else None.
    precedence: of several sets that recognise a folder, the one with the highest number is taken.
    fitting(params) -> how `read` fits a picture of any size into the input, as the keys of
    qatspec.api.ModelInput that say it: {"resize": "letterbox"}, {"crop": 0.875}. Files record it,
    so that they take pictures without the spec. None: files take pictures of the input's size, or
    as `model.input.resize` says. Must not import torch.
    """

    name: str
    summary: str
    params: JSONSchema
    open: Callable[[Params, Path, Path], Any]
    fingerprint: Callable[[Params, Path], str]
    metric: str
    classes: Callable[[Params, Path], Sequence[str] | None] | None = None
    recognize: Callable[[Path], FoundData | None] | None = None
    precedence: int = 0
    fitting: Callable[[Params], Mapping[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """What a data set recognises in a folder of pictures and labels (`qatspec new DIR`).

    what     the format in words ("YOLO label files").
    task     detection, segmentation or classification: which model the spec begins with.
    roles    params of the roles "train" and "val", without `root`; paths are relative to the
             folder.
    pictures some pictures, whose sizes are looked at.
    notes    what the user should know of how the folder was read.
    """

    what: str
    task: Literal["detection", "segmentation", "classification"]
    roles: Mapping[str, Params]
    pictures: Sequence[Path] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class QConfigDef:
    """A qconfig preset. `aliases` are accepted as other names of it (the community tutorial's).

    name, summary: for specs and for `qatspec plugins`. config: the rule that it stands for.
    needs_calibration: activation scales must come from a calibration (horizon_calibrated).
    """

    name: str
    summary: str
    config: QConfig
    aliases: tuple[str, ...] = ()
    needs_calibration: bool = False


@dataclass(frozen=True, kw_only=True)
class PrepareConfigDef:
    """A prepare preset: the community tutorial's HorizonPrepareCustomConfigDict is `horizon`.

    name, aliases  what `prepare:` of a spec calls it; summary: for `qatspec plugins`.
    config         what it stands for.
    """

    name: str
    summary: str
    config: PrepareConfig
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ObserverDef:
    """A way to find a range, which qconfigs call by `name`; summary: for `qatspec plugins`.

    build(qspec, channels) -> an observer module, channels being 1 or the weight's output channels
    (qatspec.quant.observers says what it must have)."""

    name: str
    summary: str
    build: Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class FusePattern:
    """A chain of ops that the chip runs as one, decided by its anchor.

    name, summary: for messages and for `qatspec plugins`.
    pattern: canonical op names in forward order, ("conv2d", "batch_norm2d", "relu|relu6"), "|"
    between alternatives. The first is the anchor. check(match) -> None, or the reason why it
    declines. rewrite(match) -> None edits the graph, or None where fusing is annotation alone.
    """

    name: str
    summary: str
    pattern: tuple[str, ...]
    check: Callable[[Any], str | None] | None = None
    rewrite: Callable[[Any], None] | None = None


@dataclass(frozen=True, kw_only=True)
class QuantHandler:
    """Quantization, lowering and ONNX form of ops. name, summary: for messages and for `qatspec
    plugins`.

    ops: canonical names of the ops. A module becomes one op by the class attribute
    `canonical_op = "my_op"`; tracing then does not enter it.

    spellings: canonical name -> every public name by which models call the op: "torch.nn.Mish",
    "torch.nn.functional.mish", "torch.Tensor.mish". A module's subclasses count where they keep
    its forward. An op that is such a name itself, ops=("torch.nn.Mish",), needs no spelling.
    traits: what passes ask of all ops of the handler.
    annotate(node, context) -> Annotation; never touches the graph.
    lower(node, lowering) -> ScaledInts, PendingSum (qatspec.lowering) or a list of them: emits
    integer ops. None: the ops have no integer form.
    to_onnx(node, writer) -> name of the result (a list of names for ops with several): the float
    op in standard ONNX ops (qatspec.qdq.QdqWriter). None: the Q/DQ file refuses the ops.
    examples() -> each op as a module, what the kit tries the handler on.
    """

    name: str
    summary: str
    ops: tuple[str, ...]
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    traits: frozenset[OpTrait] = frozenset()
    annotate: Callable[..., Any]
    lower: Callable[..., Any] | None = None
    to_onnx: Callable[..., Any] | None = None
    examples: Callable[[], Sequence[Example]] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the march can run an op: `ok`; if not, the reason, stated so that a user can act on
    it. fix: what to do about it, as an imperative clause; "": qatspec's own advice for the kind."""

    ok: bool
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """The integer arithmetic of a march, as `lower` needs it (rule: exact multipliers).

    multiplier_bits  width of a requantization multiplier, unsigned, in bits.
    rounding         of the requantization shift: half_up (floor(x + 1/2)), half_even, floor.
    form             how a requantization to 8 bits computes (qatspec.kinds.requantization): single
                     (one multiplier and one shift for all terms, of the two fields above),
                     double_high (31-bit multipliers, two roundings: the reference kernels of
                     TFLite) or float32 (a product in float32: XNNPACK).
    fused_add        a conv's or linear's accumulator takes an addition before the one rounding;
                     otherwise its result is rounded (a fake-quant of its own) and then added.
    """

    multiplier_bits: int = 16
    rounding: str = "half_up"
    form: Literal["single", "double_high", "float32"] = "single"
    fused_add: bool = True


@dataclass(frozen=True, kw_only=True)
class March:
    """A chip architecture: capabilities as versioned data, and its compiler.

    name, summary for specs and for `qatspec plugins`.
    version       of the capabilities; it counts up with each change, and is part of digests.
    arithmetic    the integer arithmetic of the chip.
    chips         chip names that mean this march ("j5"): they get a did-you-mean.
    experimental  why the march is no more than a sketch of its chip; `plan` prints it.
    capabilities  what the march takes and how fast it is, as typed data.
    options       JSON schema of `stages.compile`'s further keys.
    trial_options options laid over the spec's where compile is tried before training: they refuse
                  what the spec's own refuse, sooner.
    supports(op, program) -> Verdict, in agreement with compile.
    compile(program, options) -> Artifact. run(artifact, ints) -> list of integer arrays.
    measure(program, artifact, inputs, float32) -> {"manifest": ..., "perf": ...}: what is measured
                  of a compiled file on real inputs. The first goes into its manifest, the second is
                  `perf.json`. inputs: integers of the Program's ports, one list an image; float32:
                  the same net without quantization as ONNX bytes, None where there is none.
    bit_exact     the artifact computes the Program's integers exactly (rule: stated exactness).
    qdq           the 8-bit activations of the QAT ONNX: int8 with zero point 0, or uint8 with zero
                  point 128 (the same numbers; onnxruntime's fast kernels on x86 take no other).
    float_ops     canonical op -> why the march leaves it in float; read where the prepare preset
                  asks for the march's special cases. Between quantized ops conversion refuses it,
                  with that reason. "matmul" is a product of two activations.
    handoffs      name for `convert: {handoff: NAME}` -> (facts) -> configuration of a tool of the
                  vendor, which is written as YAML. facts: name, march, onnx (file), input (its
                  name), size, format, mean and std of the picture (of each channel), fed
                  (`rt_input_type`), layout (`rt_input_layout`), opt; None: no such option.
    """

    name: str
    summary: str
    version: int
    chips: tuple[str, ...] = ()
    experimental: str = ""
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    capabilities: Capabilities = field(default_factory=Capabilities)
    options: JSONSchema = field(default_factory=lambda: NO_PARAMS)
    trial_options: Params = field(default_factory=dict)
    supports: Callable[[OpView, ProgramView], Verdict]
    compile: Callable[[ProgramView, Params], ArtifactView]
    run: Callable[[ArtifactView, Sequence[np.ndarray]], list[np.ndarray]]
    measure: (
        Callable[
            [ProgramView, ArtifactView, Sequence[Sequence[np.ndarray]], bytes | None],
            Mapping[str, Mapping[str, Any]],
        ]
        | None
    ) = None
    bit_exact: bool = True
    qdq: Literal["int8", "uint8"] = "int8"
    float_ops: Mapping[str, str] = field(default_factory=dict)
    handoffs: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        capabilities: object = self.capabilities
        if not isinstance(capabilities, Capabilities):
            kind = type(capabilities).__name__
            raise TypeError(f"`capabilities` of march `{self.name}` is a {kind}, not Capabilities")


def _for_each_input(*choices: str) -> dict[str, Any]:
    """A schema of one of `choices`, the first by default, or of a mapping of inputs to them."""
    one = {"enum": list(choices)}
    return {
        "default": choices[0],
        "if": {"type": "object"},
        "then": {"additionalProperties": one},
        "else": one,
    }


#: Properties for `March.options` of a march whose compiled files may be fed a camera's frames.
#: qatspec converts them (qatspec.program.runtime_input); the march's `compile` never sees the keys,
#: and its `run` is given the Program's integers.
RUNTIME_INPUT: Mapping[str, JSONSchema] = {
    "rt_input_type": {
        **_for_each_input("featuremap", "rgb", "bgr", "yuv444", "nv12", "gray"),
        "description": (
            "what the compiled file is fed: featuremap: the model's own integers; "
            "else unsigned bytes as a camera gives them, converted by integers alone. nv12: a "
            "plane of luma above one of chroma pairs at half the size. With several inputs: a "
            "mapping of their names"
        ),
    },
    "rt_input_layout": {
        **_for_each_input("NCHW", "NHWC"),
        "description": "order of the dimensions of what it is fed; with several inputs: a mapping",
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a plugin's qatspec_check.

    at        JSON pointer into the spec.
    message   what is wrong there; help: how to fix it.
    severity  "warning" or "error".
    """

    at: str
    message: str
    help: str | None = None
    severity: str = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvent:
    """An event of a run.

    kind: run_started, step_started, step_cached, progress, metrics, log, step_finished,
    step_failed, run_finished. `step` is the stage's name; `data` per kind (qatspec.engine.events).
    """

    kind: str
    step: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

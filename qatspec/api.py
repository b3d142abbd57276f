"""The one module that plugins and scripts import. Everything is loaded when first touched, so
that importing it costs no torch."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers; tests/contract holds both equal
    from qatspec.backend import (
        Target as Target,
        Times as Times,
        Timing as Timing,
        assemble as assemble,
        compile as compile,
        measured_exactness as measured_exactness,
        measured_perf as measured_perf,
        perf as perf,
        run_in_batches as run_in_batches,
        time_in_turn as time_in_turn,
        timing as timing,
        verdict as verdict,
        write_perf as write_perf,
    )
    from qatspec.backend.machine import run_compiled as run_compiled
    from qatspec.diag import (
        Diagnostic as Diagnostic,
        DiagnosticError as DiagnosticError,
        Note as Note,
        Span as Span,
        codes as codes,
    )
    from qatspec.engine import run as run
    from qatspec.export import (
        OnnxRunner as OnnxRunner,
        export_qat_onnx as export_qat_onnx,
        to_onnx as to_onnx,
    )
    from qatspec.export.converted import rounded_values as rounded_values
    from qatspec.export.exactness import (
        LayerExactness as LayerExactness,
        layer_exactness as layer_exactness,
    )
    from qatspec.export.real import (
        qdq_feeds as qdq_feeds,
        qdq_integers as qdq_integers,
        to_qdq_onnx as to_qdq_onnx,
    )
    from qatspec.export.runner import open_session as open_session
    from qatspec.files import (
        content_digest as content_digest,
        open_file as open_file,
        read_file as read_file,
        why_no_folder as why_no_folder,
        why_unreadable as why_unreadable,
    )
    from qatspec.graph import (
        Decision as Decision,
        DecisionKind as DecisionKind,
        Prepared as Prepared,
    )
    from qatspec.graph.context import GraphContext as GraphContext
    from qatspec.hookspecs import (
        API_VERSION as API_VERSION,
        hookimpl as hookimpl,
    )
    from qatspec.lower import lower as lower
    from qatspec.lowering import (
        INTEGERS as INTEGERS,
        Grid as Grid,
        Lowering as Lowering,
        PendingSum as PendingSum,
        ScaledInts as ScaledInts,
        expanded as expanded,
        lookup as lookup,
        padded as padded,
        permuted as permuted,
        quotient as quotient,
        reshaped as reshaped,
        taken as taken,
    )
    from qatspec.picture import (
        AnnotatedPicture as AnnotatedPicture,
        ModelInput as ModelInput,
        Pixels as Pixels,
        Placement as Placement,
        open_annotated_picture as open_annotated_picture,
        open_labels as open_labels,
        open_picture as open_picture,
        restore_boxes as restore_boxes,
        restore_mask as restore_mask,
    )
    from qatspec.plan import (
        Plan as Plan,
        resolve as resolve,
    )
    from qatspec.prepare import (
        dump as dump,
        prepare as prepare,
        set_stage as set_stage,
    )
    from qatspec.process import (
        folder_being_made as folder_being_made,
        scratch_folder as scratch_folder,
    )
    from qatspec.program import (
        Artifact as Artifact,
        Op as Op,
        Port as Port,
        Program as Program,
        ProgramBuilder as ProgramBuilder,
        Provenance as Provenance,
        Value as Value,
        digest as digest,
    )
    from qatspec.qdq import QdqWriter as QdqWriter
    from qatspec.quant.observers import Observer as Observer
    from qatspec.referee import interpret as interpret
    from qatspec.registry import (
        Registry as Registry,
        registry as registry,
    )
    from qatspec.spec import (
        InputSpec as InputSpec,
        Spec as Spec,
        TensorSpec as TensorSpec,
        load as load,
    )
    from qatspec.train.given import (
        Given as Given,
        load_state as load_state,
    )
    from qatspec.types import (
        NO_PARAMS as NO_PARAMS,
        RUNTIME_INPUT as RUNTIME_INPUT,
        TILED_OPTIONS as TILED_OPTIONS,
        Annotation as Annotation,
        Arithmetic as Arithmetic,
        Capabilities as Capabilities,
        Dataset as Dataset,
        DatasetDef as DatasetDef,
        DetailedDataset as DetailedDataset,
        Example as Example,
        Finding as Finding,
        Fixed as Fixed,
        Float as Float,
        FoundData as FoundData,
        FusePattern as FusePattern,
        Hardware as Hardware,
        HostCpu as HostCpu,
        LibraryModel as LibraryModel,
        Limit as Limit,
        March as March,
        ModelDef as ModelDef,
        Observed as Observed,
        ObserverDef as ObserverDef,
        OpSupport as OpSupport,
        OpTrait as OpTrait,
        PictureDataset as PictureDataset,
        PixelSample as PixelSample,
        PrepareConfig as PrepareConfig,
        PrepareConfigDef as PrepareConfigDef,
        QConfig as QConfig,
        QConfigDef as QConfigDef,
        QSpec as QSpec,
        QuantHandler as QuantHandler,
        Sample as Sample,
        Shared as Shared,
        StageEvent as StageEvent,
        TaskModel as TaskModel,
        Verdict as Verdict,
        lazy as lazy,
        tiled_march as tiled_march,
    )

#: public name -> module that owns it
_HOME: dict[str, str] = {}


def _export(module: str, *names: str) -> None:
    _HOME.update(dict.fromkeys(names, module))


_export("qatspec.diag", "Diagnostic", "DiagnosticError", "Note", "Span", "codes")
_export("qatspec.files", "open_file", "read_file", "why_unreadable", "why_no_folder")
_export("qatspec.files", "content_digest")
_export("qatspec.hookspecs", "API_VERSION", "hookimpl")
_export(
    "qatspec.types",
    "NO_PARAMS", "RUNTIME_INPUT", "TILED_OPTIONS", "Annotation", "Arithmetic", "Capabilities",
    "Dataset", "DatasetDef", "Example", "Finding",
    "Fixed", "Float", "FoundData", "FusePattern", "LibraryModel", "March", "ModelDef", "Observed",
    "ObserverDef", "OpTrait",
    "DetailedDataset",
    "PictureDataset",
    "PrepareConfig", "PrepareConfigDef", "QConfig", "QConfigDef", "QSpec",
    "PixelSample", "QuantHandler", "Sample", "Shared",
    "StageEvent", "TaskModel", "Verdict", "lazy", "Hardware", "HostCpu", "Limit", "OpSupport",
    "tiled_march",
)  # fmt: skip
_export("qatspec.spec", "InputSpec", "Spec", "TensorSpec", "load")
_export("qatspec.registry", "Registry", "registry")
_export(
    "qatspec.picture",
    "AnnotatedPicture", "ModelInput", "Pixels", "Placement", "open_annotated_picture",
    "open_labels", "open_picture", "restore_boxes", "restore_mask",
)  # fmt: skip
_export("qatspec.plan", "Plan", "resolve")
_export("qatspec.graph", "Decision", "DecisionKind", "Prepared")
_export("qatspec.graph.context", "GraphContext")
_export("qatspec.process", "folder_being_made", "scratch_folder")
_export(
    "qatspec.program",
    "Artifact", "Op", "Port", "Program", "ProgramBuilder", "Provenance", "Value", "digest",
)  # fmt: skip
_export("qatspec.qdq", "QdqWriter")
_export("qatspec.quant.observers", "Observer")
_export("qatspec.referee", "interpret")
_export("qatspec.prepare", "dump", "prepare", "set_stage")
_export("qatspec.lower", "lower")
_export(
    "qatspec.lowering",
    "INTEGERS", "Grid", "Lowering", "PendingSum", "ScaledInts", "expanded", "lookup", "padded",
    "permuted", "quotient", "reshaped", "taken",
)  # fmt: skip
_export("qatspec.export", "OnnxRunner", "export_qat_onnx", "to_onnx")
_export("qatspec.export.converted", "rounded_values")
_export("qatspec.export.exactness", "LayerExactness", "layer_exactness")
_export("qatspec.export.real", "qdq_feeds", "qdq_integers", "to_qdq_onnx")
_export("qatspec.export.runner", "open_session")
_export("qatspec.backend.machine", "run_compiled")
_export(
    "qatspec.backend",
    "Target", "Times", "Timing", "assemble", "compile", "measured_exactness", "measured_perf",
    "perf", "run_in_batches", "time_in_turn", "timing", "verdict", "write_perf",
)  # fmt: skip
_export("qatspec.train.given", "Given", "load_state")
_export("qatspec.engine", "run")


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise _no_attribute(name) from None
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def _no_attribute(name: str) -> AttributeError:
    """The error for an unknown name, with its new name where it was renamed."""
    from qatspec.registry.renames import missing_name

    message = f"module 'qatspec.api' has no attribute {name!r}"
    error = AttributeError(message, name=name, obj=sys.modules[__name__])
    row = missing_name(error)
    if row is None:
        return error
    return AttributeError(f"{message}: {row}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted(_HOME)


__all__ = sorted(_HOME)

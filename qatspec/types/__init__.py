"""Contract records of plugins: data and protocols, no behaviour, no torch."""

from qatspec.types.annotation import Annotation, Fixed, Float, Intent, Observed, Shared
from qatspec.types.lazy import Lazy, lazy
from qatspec.types.prepare import PrepareConfig, Standalone
from qatspec.types.qconfig import QRANGE, QConfig, QSpec
from qatspec.types.records import (
    NO_PARAMS,
    RUNTIME_INPUT,
    Arithmetic,
    DatasetDef,
    Finding,
    FusePattern,
    JSONSchema,
    March,
    ModelDef,
    ObserverDef,
    Params,
    PrepareConfigDef,
    QConfigDef,
    QuantHandler,
    StageEvent,
    Verdict,
)
from qatspec.types.task import Dataset, PictureDataset, Sample, TaskModel

__all__ = [
    "NO_PARAMS",
    "QRANGE",
    "RUNTIME_INPUT",
    "Annotation",
    "Arithmetic",
    "Dataset",
    "DatasetDef",
    "Finding",
    "Fixed",
    "Float",
    "FusePattern",
    "Intent",
    "JSONSchema",
    "Lazy",
    "March",
    "ModelDef",
    "Observed",
    "ObserverDef",
    "Params",
    "PictureDataset",
    "PrepareConfig",
    "PrepareConfigDef",
    "QConfig",
    "QConfigDef",
    "QSpec",
    "QuantHandler",
    "Sample",
    "Shared",
    "StageEvent",
    "Standalone",
    "TaskModel",
    "Verdict",
    "lazy",
]

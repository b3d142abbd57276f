"""Contract records of plugins: data and protocols, no behaviour, no torch."""

from qatspec.types.annotation import Annotation, Fixed, Float, Intent, Observed, Shared
from qatspec.types.capabilities import Capabilities, Hardware, Limit, OpSupport
from qatspec.types.lazy import Lazy, lazy
from qatspec.types.lookup import RecordsView
from qatspec.types.ops import Example, OpTrait
from qatspec.types.prepare import PrepareConfig, Standalone
from qatspec.types.qconfig import QRANGE, QConfig, QSpec
from qatspec.types.records import (
    NO_PARAMS,
    RUNTIME_INPUT,
    Arithmetic,
    DatasetDef,
    Finding,
    FoundData,
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
from qatspec.types.tiled import TILED_OPTIONS, tiled_march
from qatspec.types.views import SpecView

__all__ = [
    "NO_PARAMS",
    "QRANGE",
    "RUNTIME_INPUT",
    "TILED_OPTIONS",
    "Annotation",
    "Arithmetic",
    "Capabilities",
    "Dataset",
    "DatasetDef",
    "Example",
    "Finding",
    "Fixed",
    "Float",
    "FoundData",
    "FusePattern",
    "Hardware",
    "Intent",
    "JSONSchema",
    "Lazy",
    "Limit",
    "March",
    "ModelDef",
    "Observed",
    "ObserverDef",
    "OpSupport",
    "OpTrait",
    "Params",
    "PictureDataset",
    "PrepareConfig",
    "PrepareConfigDef",
    "QConfig",
    "QConfigDef",
    "QSpec",
    "QuantHandler",
    "RecordsView",
    "Sample",
    "Shared",
    "SpecView",
    "StageEvent",
    "Standalone",
    "TaskModel",
    "Verdict",
    "lazy",
    "tiled_march",
]

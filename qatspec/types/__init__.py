"""Contract records of plugins: data and protocols, no behaviour, no torch."""

from qatspec.types.annotation import (
    Annotation as Annotation,
    Fixed as Fixed,
    Float as Float,
    Intent as Intent,
    Observed as Observed,
    Shared as Shared,
)
from qatspec.types.capabilities import (
    Capabilities as Capabilities,
    Hardware as Hardware,
    HostCpu as HostCpu,
    Limit as Limit,
    OpSupport as OpSupport,
)
from qatspec.types.lazy import Lazy as Lazy, lazy as lazy
from qatspec.types.lookup import RecordsView as RecordsView
from qatspec.types.ops import Example as Example, OpTrait as OpTrait
from qatspec.types.prepare import PrepareConfig as PrepareConfig, Standalone as Standalone
from qatspec.types.qconfig import QRANGE as QRANGE, QConfig as QConfig, QSpec as QSpec
from qatspec.types.records import (
    NO_PARAMS as NO_PARAMS,
    RUNTIME_INPUT as RUNTIME_INPUT,
    Arithmetic as Arithmetic,
    DatasetDef as DatasetDef,
    Finding as Finding,
    FoundData as FoundData,
    FusePattern as FusePattern,
    JSONSchema as JSONSchema,
    LibraryModel as LibraryModel,
    March as March,
    ModelDef as ModelDef,
    ObserverDef as ObserverDef,
    Params as Params,
    PrepareConfigDef as PrepareConfigDef,
    QConfigDef as QConfigDef,
    QuantHandler as QuantHandler,
    StageEvent as StageEvent,
    Verdict as Verdict,
)
from qatspec.types.task import (
    Dataset as Dataset,
    DetailedDataset as DetailedDataset,
    PictureDataset as PictureDataset,
    PixelSample as PixelSample,
    Sample as Sample,
    TaskModel as TaskModel,
)
from qatspec.types.tiled import TILED_OPTIONS as TILED_OPTIONS, tiled_march as tiled_march
from qatspec.types.views import SpecView as SpecView

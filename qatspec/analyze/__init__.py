"""Why accuracy changed: one model's forms layer by layer, and what quantizing each part costs."""

from qatspec.analyze.compare import (
    Comparison as Comparison,
    LayerError as LayerError,
    OutputError as OutputError,
    compare_layers as compare_layers,
)
from qatspec.analyze.measures import Noise as Noise, Steps as Steps, sqnr as sqnr
from qatspec.analyze.onnx import OnnxError as OnnxError, compare_qat_onnx as compare_qat_onnx
from qatspec.analyze.patch import (
    Suggestion as Suggestion,
    patch as patch,
    patched_leaves as patched_leaves,
)
from qatspec.analyze.sensitivity import (
    Harm as Harm,
    Sensitivity as Sensitivity,
    by_metric as by_metric,
    by_noise as by_noise,
)
from qatspec.analyze.sites import Site as Site, sites as sites

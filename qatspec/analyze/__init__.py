"""Why accuracy changed: one model's forms layer by layer, and what quantizing each part costs."""

from qatspec.analyze.compare import Comparison, LayerError, OutputError, compare_layers
from qatspec.analyze.measures import Noise, Steps, sqnr
from qatspec.analyze.onnx import OnnxError, compare_qat_onnx
from qatspec.analyze.patch import Suggestion, patch, patched_leaves
from qatspec.analyze.sensitivity import Harm, Sensitivity, by_metric, by_noise
from qatspec.analyze.sites import Site, sites

__all__ = [
    "Comparison",
    "Harm",
    "LayerError",
    "Noise",
    "OnnxError",
    "OutputError",
    "Sensitivity",
    "Site",
    "Steps",
    "Suggestion",
    "by_metric",
    "by_noise",
    "compare_layers",
    "compare_qat_onnx",
    "patch",
    "patched_leaves",
    "sites",
    "sqnr",
]

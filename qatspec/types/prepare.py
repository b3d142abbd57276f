"""The community tutorial's prepare_custom_config_dict as a frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """A module traced and prepared as one unit of its own, by name or by class."""

    name: str | None = None
    cls: str | None = None
    qconfig: Any = None
    prepare: Any = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """Every key of the community tutorial's prepare_custom_config_dict and torch's others.

    The keys are those of torch's FX mode: standalone_module_name, standalone_module_class,
    non_traceable_module_name, non_traceable_module_class, additional_fuser_method_mapping,
    additional_qat_module_mapping, additional_fusion_pattern, additional_quant_pattern,
    float_to_observed_custom_module_class, observed_to_quantized_custom_module_class,
    input_quantized_idxs, output_quantized_idxs (positions of arguments and results),
    preserved_attributes; schemas/README.md describes
    each. Python objects are named by strings ("torch.nn.Conv2d"); through the Python API classes
    and functions themselves are taken as well.

    march_preset   the march's special cases apply: ops that it leaves in float (March.float_ops),
                   and what handlers ask GraphContext.march for.
    input_scale    fixed scale of the model's inputs (1/128 for centred YUV444), None: observed.
    boundary       paths of the last modules of the quantized network; what follows is in float.
    wrap           functions that are recorded as one call.
    shared_conv    a conv called at several sites: `tied` (one parameter) or `copy` (a deepcopy).
    """

    march_preset: bool = False
    input_scale: float | None = None
    shared_conv: Literal["tied", "copy"] = "tied"
    standalone_module_name: tuple[Standalone, ...] = ()
    standalone_module_class: tuple[Standalone, ...] = ()
    non_traceable_module_name: tuple[str, ...] = ()
    non_traceable_module_class: tuple[Any, ...] = ()
    additional_fuser_method_mapping: Mapping[Any, Any] = field(default_factory=dict)
    additional_qat_module_mapping: Mapping[Any, Any] = field(default_factory=dict)
    additional_fusion_pattern: Mapping[Any, Any] = field(default_factory=dict)
    additional_quant_pattern: Mapping[Any, Any] = field(default_factory=dict)
    float_to_observed_custom_module_class: Mapping[Any, Any] = field(default_factory=dict)
    observed_to_quantized_custom_module_class: Mapping[Any, Any] = field(default_factory=dict)
    input_quantized_idxs: tuple[int, ...] = ()
    output_quantized_idxs: tuple[int, ...] = ()
    preserved_attributes: tuple[str, ...] = ()
    wrap: tuple[Any, ...] = ()
    boundary: tuple[str, ...] = ()

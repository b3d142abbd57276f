"""What this plugin registers: the marches of TFLite files, on CPUs and on Arm's Ethos-U."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from qatspec.api import RUNTIME_INPUT, Arithmetic, Finding, March, hookimpl, lazy

#: XNNPACK: products in float32. Nothing adds into an accumulator.
XNNPACK = Arithmetic(multiplier_bits=24, rounding="half_even", form="float32", fused_add=False)
#: The reference kernels, TFLite Micro and Ethos-U: 31-bit multipliers and two roundings.
REFERENCE = Arithmetic(multiplier_bits=31, rounding="half_up", form="double_high", fused_add=False)

_CPUS = {
    "litert": (XNNPACK, "Arm and x86 CPUs, by LiteRT and XNNPACK", "tflite"),
    "litert_reference": (REFERENCE, "TFLite's reference kernels, for microcontrollers", "tflm"),
}
#: march -> (sizes in multiply-adds a cycle, of which the first is the default; systems of Vela).
_ETHOS = {
    "ethos_u55": (
        (128, 32, 64, 256),
        ("Ethos_U55_Deep_Embedded", "Ethos_U55_High_End_Embedded"),
    ),
    "ethos_u65": (
        (256, 512),
        (
            "Ethos_U65_Embedded",
            "Ethos_U65_Mid_End",
            "Ethos_U65_High_End",
            "Ethos_U65_Client_Server",
        ),
    ),
    "ethos_u85": (
        (256, 128, 512, 1024, 2048),
        (
            "Ethos_U85_SYS_Flash_Low",
            "Ethos_U85_SYS_Flash_High",
            "Ethos_U85_SYS_DRAM_Low",
            "Ethos_U85_SYS_DRAM_Mid",
            "Ethos_U85_SYS_DRAM_High",
        ),
    ),
}
_MEMORIES = (
    "Sram_Only",
    "Shared_Sram",
    "Dedicated_Sram",
    "Dedicated_Sram_256KB",
    "Dedicated_Sram_384KB",
    "Dedicated_Sram_512KB",
)


def _options(**properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**properties, **RUNTIME_INPUT},
    }


def _vela_options(
    sizes: tuple[int, ...], systems: tuple[str, ...]
) -> Mapping[str, Mapping[str, Any]]:
    return {
        "macs": {
            "enum": sorted(sizes),
            "default": sizes[0],
            "description": "the accelerator's size: multiply-adds of 8 bits a cycle",
        },
        "system": {
            "enum": [*systems, None],
            "default": None,
            "description": "clock and memories, a system of Vela's Arm/vela.ini; null: Vela's own",
        },
        "memory": {
            "enum": [*_MEMORIES, None],
            "default": None,
            "description": "where weights and features lie, a mode of Vela's Arm/vela.ini; null: "
            "Vela's own",
        },
    }


@hookimpl
def qatspec_marches() -> Iterable[March]:
    for name, (arithmetic, summary, chip) in _CPUS.items():
        yield March(
            name=name,
            summary=f"{summary}; needs the extra qatspec[litert]",
            version=1,
            chips=(chip,),
            arithmetic=arithmetic,
            options=_options(),
            supports=lazy("qatspec_litert.march:supports", name, arithmetic.form),
            compile=lazy("qatspec_litert.march:compile_tflite", name, arithmetic.form),
            run=lazy("qatspec_litert.march:run"),
            measure=lazy("qatspec_litert.measure:measure"),
        )
    for name, (sizes, systems) in _ETHOS.items():
        yield March(
            name=name,
            summary=f"Arm Ethos-U{name[-2:]}, by Vela; needs the extra qatspec[ethos]",
            version=1,
            chips=(f"u{name[-2:]}",),
            arithmetic=REFERENCE,
            options=_options(**_vela_options(sizes, systems)),
            supports=lazy("qatspec_litert.march:supports", name, REFERENCE.form),
            compile=lazy("qatspec_litert.ethos:compile_ethos", name, REFERENCE.form),
            run=lazy("qatspec_litert.march:run"),
            measure=lazy("qatspec_litert.ethos:measure"),
        )


@hookimpl
def qatspec_check(spec: Any) -> Iterable[Finding]:
    """Warn where compile needs a package that this environment does not have."""
    if spec.march not in (*_CPUS, *_ETHOS) or "compile" not in spec.stages:
        return
    needed = {"ai_edge_litert": ("ai-edge-litert", "litert")}
    if spec.march in _ETHOS:
        needed["ethosu"] = ("ethos-u-vela", "ethos")
    for module, (package, extra) in needed.items():
        if importlib.util.find_spec(module) is None:
            message = f"stage compile needs {package}, which is not installed here"
            yield Finding(at="/march", message=message, help=f"pip install 'qatspec[{extra}]'")

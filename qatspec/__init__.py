"""qatspec: a declarative compiler for quantization-aware training on edge chips.

Everything public is in `qatspec.api`.
"""

__version__ = "0.1.0"

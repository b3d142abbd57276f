"""qatspec: a declarative compiler for quantization-aware training on edge chips.

Everything public is in `qatspec.api`.
"""

import importlib.metadata

__version__ = importlib.metadata.version("qatspec")

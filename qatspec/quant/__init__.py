"""Observers, fake-quant and the quantized modules. Import from the files: `quant.plugin` must not
load torch."""

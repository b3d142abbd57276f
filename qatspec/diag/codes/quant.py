"""QS6xx: quantization."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS601",
        "a quantization setting that does not exist",
        """
The observer, fake-quant and axis of a qconfig do not go together: per-channel kl,
`fixed_scale` without a scale, a `ch_axis` other than 0.

**Mend.** As the help line says; `qatspec plugins list` shows the observers there are.
""",
    ),
    Code(
        "QS602",
        "code of a prepare key that cannot be used",
        """
`additional_*` and `*_custom_module_class` bring code: a function that fuses, a handler that
annotates, a class that takes another's place. The name was not found, or what it names lacks the
method that is called. Names are looked up in `torch.nn`, `torch.ao.nn`, `torch.ao.quantization` and
in the packages of installed plugins, and nowhere else.

**Mend.** As the help line says.

```yaml
prepare:
  additional_qat_module_mapping:
    my_plugin.layers.MyConv: my_plugin.layers.MyQuantConv      # has from_float(module)
  additional_quant_pattern: [[[torch.nn.ReLU, torch.nn.Conv2d], conv]]   # a registered handler
```
""",
    ),
    Code(
        "QS603",
        "quantize_input: false, but the producer is not quantized",
        """
`quantize_input: false` says: the tensor that arrives is already quantized, trust its scale. Here it
comes from something that is not quantized, so the first op would compute on float numbers.

**Mend.** Remove `quantize_input: false`, or prepare the producer too.

```yaml
quantize:
  modules:
    neck: {prepare: horizon, quantize_input: false}    # QS603: backbone is not prepared
```
""",
    ),
    Code(
        "QS604",
        "quantize_output: false needs a conv or linear at the end",
        """
An output that is not quantized leaves the chip as a conv's or a linear's int32 accumulator. The
last op here is something else, or has a relu or an addition fused behind it, which needs 8 or 16
bits.

**Mend.** Move what follows the conv (relu, sigmoid, scaling) into the loss and the post-process, or
remove `quantize_output: false`.
""",
    ),
    Code(
        "QS605",
        "a scale that was never observed",
        """
The stage uses activation scales that come from a calibration (`horizon_calibrated`), but some were
never set: training would start from a scale of 1.

**Mend.** Run the calibration stage first and start from its checkpoint, or use `horizon_qat`, which
observes activations while training.
""",
    ),
    Code(
        "QS606",
        "a batch norm was not folded",
        """
A batch norm that stands alone costs the chip an extra op, and its fake-quant an extra rounding. The
message says why it was not folded: nothing to fold it into, a conv whose output is used elsewhere,
no running statistics.

**Mend.** Put the batch norm directly behind a conv or linear, and use the conv's output nowhere
else.
""",
    ),
    Code(
        "QS607",
        "a rule on a fused op has no effect",
        """
A fused group (conv, batch norm, add, relu) is quantized as one and decided by its anchor, the conv.
A rule that names another member and says something else has no effect.

**Mend.** Name the conv, or remove the rule.
""",
    ),
    Code(
        "QS608",
        "an op stays in float",
        """
No march computes this op in integers, no quant handler knows it, or the march leaves it to the CPU
and the prepare preset asks for the march's special cases. Everything around it is quantized; the op
itself runs in float, and conversion to a chip program will refuse it.

**Mend.** Replace the op, move it out of the prepared modules, or register a quant handler for it.
""",
    ),
    Code(
        "QS613",
        "a constant takes the whole range",
        """
A grid of integers has one step for all its numbers. A constant such as `-inf`, `-1e9` or `-1e4`
that is added, padded or concatenated to a tensor would set that step: on 8 bits, a range up to 1e4
has steps of 78, and nothing of the other numbers is left. From 50 on (the -100 of a window's mask)
it is a warning: whether the other numbers reach as far is not known before calibration.

Such constants mean "never mind this place". They are fine where an op discards them before anything
is quantized: `F.pad(x, ..., value=float("-inf"))` in front of a max pool, `amax` or a ReLU,
`torch.maximum(x, y)` with a number, `clamp` with infinite bounds.

**Fix.** Let the max pool read the padded tensor; for the mask of a softmax, multiply its result by
a mask of 0 and 1 and divide it by its own sum; else use a number inside the range of the values.

```python
p = F.softmax(scores + mask, -1)                 # mask of 0 and -inf: QS613
p = F.softmax(scores, -1) * keep                 # keep of 1 and 0
p = p / p.sum(-1, keepdim=True)
```
""",
    ),
)

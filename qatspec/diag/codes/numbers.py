"""QS609 to QS611, QS955 and QS956: numbers that cannot be quantized or loaded."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS609",
        "a weight that is not finite",
        """
A parameter, a batch norm's statistics, or a weight with its batch norm folded in holds NaN or
infinity, or a variance is negative. Integers cannot hold such numbers: the fake-quantized model
would answer NaN where the integer Program answers a number that looks plausible. They are looked
for in `prepare`, whenever a stage begins, and before lowering.

**Fix.** Start from weights of finite numbers: an earlier checkpoint, or a new training with a lower
learning rate. A weight that overflows with its batch norm folded in usually has a variance close to
zero: a channel that is always constant.

```python
bad = [name for name, p in model.named_parameters() if not p.isfinite().all()]
```
""",
    ),
    Code(
        "QS610",
        "an activation that was not finite in calibration",
        """
A batch of the calibration gave NaN or infinity at the op that the message names, the first one in
the order of the graph. Observers ignore such a batch, so that the ranges would be those of the
other images alone, or were never observed.

**Fix.** Take the images that cause it out of the calibration data, or correct the op (a division by
zero, a logarithm of zero, an overflow). Then calibrate again.
""",
    ),
    Code(
        "QS611",
        "fake-quants are switched off",
        """
Lowering gives the integers of what the model computes in stage `eval`, whatever stage it was left
in. Here the model is in stage `eval` or `qat`, and some of its fake-quants are switched off: by
`enable_fake_quant(False)`, or because the state of a calibration was loaded. Its outputs are not
those that the Program would have.

**Fix.** Call `set_stage(prepared, "eval")`, which switches all of them on. To leave an op in float,
give it a `null` rule in the qconfig.
""",
    ),
    Code(
        "QS955",
        "a file of weights holds numbers that are not finite",
        """
A parameter, a batch norm's statistics or a scale in the file is NaN or infinite, does not fit
float32, or is zero or negative where it must be positive. Nothing was loaded.

**Fix.** Use an earlier checkpoint of the same training. If there is none, train again with a lower
learning rate; QS904 ends such a training before it writes a checkpoint.

    python -c "import torch; s = torch.load('w.pth')['state_dict']; \\
               print([k for k, v in s.items() if not v.isfinite().all()])"
""",
    ),
    Code(
        "QS956",
        "nothing was loaded from a file of weights",
        """
With `allow_miss` and `ignore_extra`, keys that do not fit are skipped; here no key of the file is
one of the model's, so the model keeps the weights that it had, usually random ones.

**Fix.** Give the keys the model's names with `key_map`. The message shows a key of each. A prefix
that a wrapper added (`module.` by DataParallel and DistributedDataParallel, `_orig_mod.` by
torch.compile, `model.` by many trainers) is removed by

    solver:
      weights: resnet.pth
      key_map: [['^module\\.', '']]
""",
    ),
)

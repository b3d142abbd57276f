"""QS7xx: lowering to integers, integer programs and their ONNX files."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS701",
        "an op cannot be lowered to integers",
        """\
The model holds an op for which there is no integer form: it is not one of the ops that qatspec
quantizes, it is used in a way that has none (a pooling whose divisor varies, an axis that is the
batch), or the march leaves it to the CPU and the prepare preset asks for the march's special cases.
Every such op of the model is reported, not only the first.

Why: the compiled program is integers from the input port to the output ports; a float op in the
middle would run on another processor with other numbers than those that were trained.

How to mend: replace the op by one that is exact on the chip (`AdaptiveAvgPool2d(1)` instead of an
uneven one), move it behind the outputs (into `predict`, which runs in float), or leave the module
that holds it out of `quantize.modules`.

Example: with `prepare: horizon`, a `softmax` that ends the head: return the logits from `forward`,
apply softmax in `predict`.
""",
    ),
    Code(
        "QS702",
        "an op's input is not quantized",
        """\
An op needs integers with one known scale, and what reaches it has none: no fake-quant closes the
group before it, or a rule leaves its producer in float.

Why: a convolution over unquantized accumulators does not exist on the chip.

How to mend: remove the `null` rule over the producer, or quantize the consumer's module together
with it (`quantize_output: true`).

A class of `additional_qat_module_mapping` has integers where it derives from torch's conv or linear
and computes what that does with `self.weight_fake_quant(self.weight)`, one scale an output channel,
and `self.bias`; of anything else the integers are not known.

Example: `module_name: {neck.p5: null}` leaves p5 in float while the head reads it.
""",
    ),
    Code(
        "QS703",
        "an output of the model is not an integer tail",
        """\
An output leaves the program as something that is neither a quantized tensor nor a bare
accumulator: a sum of several terms, or a tail with an activation behind the convolution.

Why: an int32 tail is a convolution's accumulator with the scale input scale x weight scale; there
is no such scale for a sum, and the chip cannot clamp an int32 tail.

How to mend: let the module end in a convolution, or set `quantize_output: true`, which closes
the tail with a fake-quant.

Example: a head that returns `relu(conv(x))` with `quantize_output: false`.
""",
    ),
    Code(
        "QS704",
        "an accumulator does not fit",
        """\
The proven bound of an integer sum is outside its accumulator: int32 for convolutions and pools,
2^53 for requantization.

Why: beyond the bound two machines may give different integers, and the claim "bit-exact" falls.

How to mend: use fewer bits for the weight or the activation of the named module, or a smaller
kernel or pooling window.

Before a training the weights are those that it starts from: the message then says that it is a
prediction. `--step float` trains all the same.

Example: an int16 convolution over 100,000 inputs.
""",
    ),
    Code(
        "QS705",
        "a scale is not a positive finite number",
        """\
A fake-quant holds a scale that is zero, negative, infinite or not a number, or one that was never
observed.

Why: integers have no meaning without a scale.

How to mend: run calibration (or qat) before converting, and look for NaN in the checkpoint.

Example: converting a model that was prepared and never saw a batch.
""",
    ),
    Code(
        "QS706",
        "an input of the model is not quantized where it enters",
        """\
An input port needs one scale and its first consumers give none, or give different ones; or a
float op stands between the input and its quantization.

Why: the port takes integers; who feeds the chip must know their scale.

How to mend: prepare the first module with `quantize_input: true`; move float pre-processing in
front of the model, into the data pipeline.

Example: `forward` divides the image by 255 before the backbone.
""",
    ),
    Code(
        "QS707",
        "a float part reads more than the quantized modules give",
        """\
`forward` goes on in float behind the quantized modules, and what it does there needs a tensor that
is no output of theirs: the model's input, or what was computed before them.

Why: the compiled program ends where the quantized modules end. The float part behind it runs on
the host, fed by the program's outputs alone.

How to mend: let the quantized modules return all that the float part needs, or move the float part
into `predict`.

Example: `return self.head(self.backbone(x)) * x.mean()` where the backbone alone is quantized.
""",
    ),
    Code(
        "QS708",
        "sums may not fit int32 after training",
        """\
Before training, the sums of the named modules are proven to fit int32 with the weights that there
are. They would not fit if every weight were at the limit of its dtype. Trained weights are seldom
near that, but whether convert takes them is known after training alone.

Why: `QS704` after a training of days should not be a surprise.

How to fix: nothing, or fewer bits for the weights or the activations of these modules: int8 by int8
sums of up to 131,000 products fit in any case.

Example: int16 activations and int8 weights in a 3x3 convolution over 64 channels.
""",
    ),
    Code(
        "QS710",
        "a program file is damaged or foreign",
        """\
The file is not a qatspec program, is cut short, or its digest does not match its bytes.

Why: running damaged integers gives wrong results without any sign of it.

How to mend: run the convert step again; check the disk and the copy.

Example: a `.program` file that was downloaded halfway.
""",
    ),
    Code(
        "QS711",
        "a program is not well-formed",
        """\
An op of the program breaks the rules of the integer IR: unknown kind, missing or mistyped
attribute, wrong shape or dtype, a value used before it is defined, a bound that does not hold.

Why: only well-formed programs mean the same integers everywhere.

How to mend: if qatspec made the file, report it with the file; if another tool made it, the
message names the op and the rule.

Example: a `requant` whose multipliers are not constants.
""",
    ),
    Code(
        "QS712",
        "arrays do not fit the ports",
        """\
`run` was given another number of arrays, another dtype or another shape than its input ports say.

Why: integers of another scale or layout would run and give nonsense.

How to mend: pass real numbers through `quantize` first: `run(*program.quantize(images))`.

Example: a float32 image given to `run`.
""",
    ),
    Code(
        "QS720",
        "an ONNX opset does not hold the dtypes",
        """\
The asked opset cannot express the model: 8 bits need opset 17 or later, int16 and int4
quantization need opset 21.

Why: an older opset would force a silent change of the numbers.

How to mend: leave `convert.opset` out, or raise it.

Example: `convert: {opset: 13}`.
""",
    ),
    Code(
        "QS721",
        "not a converted ONNX of qatspec",
        """\
The file is no ONNX model that `to_onnx` wrote, or it was changed afterwards: it cannot be read, it
lacks the metadata with the scales of its ports, or its bytes are not those of the sha256 that it
ends with.

Why: without the scales nobody can feed it or read its outputs, and a weight with one flipped bit
is a valid model with other results.

How to fix: give the `-converted.onnx` of a convert step; copy it again, or run convert again.

Example: giving the `-qat.onnx`, which takes floats, where the converted one is needed.
""",
    ),
    Code(
        "QS722",
        "this CPU does not run 8-bit kernels exactly",
        """\
A self-test of extremes, run when a converted ONNX is loaded, got other integers than arithmetic
says. Some CPUs without VNNI add pairs of 8-bit products in 16 saturating bits.

Why: results would differ from the chip's by saturated sums.

How to mend: use qatspec's own executor (`Program.run`), or another CPU.

Example: an old AVX2 machine.
""",
    ),
    Code(
        "QS723",
        "onnxruntime is not installed",
        """\
Running ONNX files needs onnxruntime, which is an extra.

How to mend: `pip install 'qatspec[onnxruntime]'`.
""",
    ),
    Code(
        "QS724",
        "an op has no ONNX form here",
        """\
The QAT ONNX is written from qatspec's own graph, op by op, and this op has no writer.

Why: dropping it or guessing would export another model than the one that was trained.

How to mend: move the op out of `forward` (into `predict`), or report it.

Example: a custom autograd function inside the backbone.
""",
    ),
    Code(
        "QS725",
        "the float parts of a model are missing",
        """\
The integers are only a part of their model: its `forward` does more than what is prepared, and the
rest was written beside them as `<name>-pre.onnx` and `<name>-post.onnx`. Neither is there.

Why: the integers' outputs are not the model's; to take them for it would give nonsense.

How to mend: keep the files of one convert step together, or run the step again.

Example: a `.program` copied without its `-post.onnx`.
""",
    ),
    Code(
        "QS730",
        "a layer's integers depart from its fake-quant",
        """\
`qatspec compare` gives each layer of the Program the very integers that the fake-quant model has
there, and the layer's result differs by more than rounding explains: one step (LSB) for 8 and 16
bits, or what the march states for its own arithmetic; for int32 tails the float32 summation error
of the fake-quant model.

Why: then the model that was trained is not the model that ships.

How to mend: this is a fault of the op's handler. Report it with the spec and the checkpoint; until
then leave the named op in float or behind the outputs.

Example: a plugin's handler whose `lower` computes another function than its module.
""",
    ),
    Code(
        "QS731",
        "a layer is noisier than the threshold",
        """\
`qatspec compare --threshold DB` found a layer or an output whose integers have a lower ratio of
signal to quantization noise than asked for. The message names the worst one.

Why: it is a gate for scripts: a change of spec or data that costs accuracy shows here first, before
a metric is computed.

How to mend: give the module more bits (`qatspec sensitivity SPEC --output patch.yaml` suggests
which), another observer, or more training; or lower the threshold.

Example: `qatspec compare specs/quickstart.yaml --threshold 15`.
""",
    ),
    Code(
        "QS732",
        "layers may saturate on x86 CPUs without VNNI",
        """\
The QAT ONNX of `march: onnxruntime` has uint8 activations and int8 weights. An x86 CPU without VNNI
(before Intel Ice Lake and AMD Zen 4) adds the products of two adjacent inputs in 16 saturating
bits. In the named layers 255 * (|w1| + |w2|) of two adjacent weights of one output channel is above
32767, so that large inputs can give wrong sums there. The bound holds for any input; whether real
inputs reach it is another question.

Why: the result would differ between CPUs without a sign of it.

How to mend: on a CPU without VNNI, set onnxruntime's session option `session.x64quantprecision` to
`1`: weights become uint8 too, and their kernels sum in 32 bits. Elsewhere leave it out, it halves
the speed. `grep -c vnni /proc/cpuinfo` prints 0 on a CPU without VNNI. qatspec's own sessions test
the CPU and set the option where it saturates.

Example: a layer with the weights 127 and 127 side by side: 255 * 254 = 64770.
""",
    ),
)

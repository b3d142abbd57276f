"""QS8xx: marches and compiled files."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS801",
        "the march cannot run an op",
        """\
An op of the integer program is outside what the chosen march (chip architecture) runs: it has no
such op, not for this dtype, or a kernel, stride, dilation, channel count or the like is beyond the
chip's limit. Every such op is reported, with the module, the line of the model's code and the rule
that quantized it.

Why: on the chip such an op would fall back to the CPU, in other numbers and far slower, or not
compile at all. qatspec's bins run whole on the accelerator or are refused.

How to mend: change the module to fit the limit that the message names, or choose a march that has
the op (`onnxruntime` has all). `qatspec check SPEC` reports the same before any training.

The model's op stands in brackets where its integer ops are called otherwise: a softmax is made of
`exp_below_max`, a sum and `divide`, a layer norm of `standardize` and `affine`.

Example: a 9x9 convolution on bernoulli2, whose kernels go up to 7x7. Two 5x5 convolutions see the
same 9x9 pixels.
""",
    ),
    Code(
        "QS802",
        "a layer does not fit the on-chip memory",
        """\
Even the smallest tile of a layer (one row, a few channels, with its weights) and what else must
stay on chip at that time is larger than the march's on-chip memory.

Why: an accelerator computes from its own memory alone; what cannot be cut small enough cannot run.

How to mend: make the named layer smaller: fewer channels, a smaller input, a reshape or resize
earlier or later in the net. A lower `compile.opt` keeps fewer tiles and values on chip. The sizes
of on-chip memories are not published; qatspec's are fitted constants of the march's capabilities.

Example: a 2048x4096 picture that is transposed, which no tile can do row by row.
""",
    ),
    Code(
        "QS803",
        "wrong options for a march's compiler",
        """\
`stages.compile`, or the options given to `compile()`, hold a key that the march's compiler does
not know or a value that it does not take.

How to mend: the message lists the options. They are defined by the march and described in the
schema that `qatspec schema` prints.

Example: `compile: {opt: O4}`; bayes takes O0, O1, O2 and O3.
""",
    ),
    Code(
        "QS804",
        "the march's runtime is not installed",
        """\
The march runs on a package that is an extra of qatspec, and it is not installed.

How to mend: run the pip line of the message, for `onnxruntime` that is
`pip install 'qatspec[onnxruntime]'`.

Example: `march: onnxruntime` in an environment that was made with `pip install qatspec`.
""",
    ),
    Code(
        "QS805",
        "no performance model for a compiled file",
        """\
A performance report was asked for a compiled file whose march has no model of time.

Why: perf figures of bernoulli2 and bayes are modelled from the schedule inside the bin. An
artifact of `march: onnxruntime` holds an ONNX file; its speed is that of your CPU and can be
measured, not modelled.

How to mend: compile for bernoulli2 or bayes, or time `Artifact.run`.
""",
    ),
    Code(
        "QS806",
        "the compiled file cannot be fed such frames",
        """\
`rt_input_type` and `rt_input_layout` of `stages.compile` say what the compiled file is fed: frames
of unsigned bytes as a camera gives them, which integer arithmetic turns into the model's own
integers. The model is trained on something else (`model.input.format`), or its size does not fit.

| trained on | fed |
|---|---|
| rgb | rgb, bgr, yuv444, nv12 |
| yuv444 | yuv444, nv12 |
| gray | gray |

`featuremap`, the default, feeds any model its own integers. nv12 needs even sides and has no
layout but its own.

How to mend: the message names the types that fit.

Example: `rt_input_type: rgb` with `model.input.format: yuv444`; write `yuv444` or `nv12`.
""",
    ),
    Code(
        "QS810",
        "a compiled file is damaged or foreign",
        """\
The file is not a compiled file of qatspec, is cut short, or its sha256 does not match its bytes.
A `.bin` of the vendor's compiler is a foreign file too: qatspec's bin is a format of its own.

Why: running damaged integers gives wrong results without any sign of it.

How to mend: run the compile step again; check the disk and the copy.

Example: a `.bin` that was downloaded halfway.
""",
    ),
    Code(
        "QS811",
        "a compiled file holds no program for its march",
        """\
The file is whole (its sha256 matches), but its sections are not what the march that it names
compiles to: a section is missing, the program is not well-formed, the command stream or the memory
plan contradict the program.

Why: such a file was written by another tool or another version, or changed on purpose.

How to mend: compile it again with this version of qatspec; if qatspec itself made the file,
report it with the file.

Example: a bin whose manifest says bayes while its sections hold an ONNX file.
""",
    ),
    Code(
        "QS812",
        "compiled commands do not compute the Program",
        """\
The compiler ran one frame of noise through the commands that it had encoded, tile by tile on
simulated memories, and a layer or an output holds other integers than the Program's, or the
commands cannot be run at all. Nothing was written.

Why: a binary runs its commands. `Artifact.run` executes the Program that lies inside the same file,
so that its results say nothing of the commands.

How to mend: this is a fault of the march's compiler. Report it with the `.program` file of the
convert stage. Until then another `opt` may work: `stages.compile.opt: O0` plans the commands in
another way, and they are verified as well.

Example: a plan that puts two values in the same place of the chip's memory at one time.
""",
    ),
)

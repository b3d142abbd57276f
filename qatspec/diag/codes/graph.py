"""QS5xx: tracing and graphs."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS501",
        "control flow depends on a tensor's numbers",
        """
The model decides something in `forward` (an `if`, a `for`, an `assert`, `int(x)`) by the numbers
inside a tensor. A traced graph has one fixed sequence of ops, so the decision cannot be kept.

What depends on structure or shape alone is fine: `for x in feats`, `len(feats)`, `x.shape[2] > 8`,
asserts on either. They are evaluated once, with the example input.

**Mend.** Move the decision to `__init__`; or put the code into a function and name it in
`prepare: {wrap: [my_function]}`; or leave the whole module untraced with
`prepare: {non_traceable_module_name: [path.of.module]}`.

```python
def forward(self, x):
    if x.max() > 1:          # QS501
        x = x / 255
```
""",
    ),
    Code(
        "QS502",
        "the model's code cannot be traced",
        """
Tracing runs `forward` with stand-ins for tensors. Something in it refused them: a C extension, a
NumPy call, a conversion such as `float(x)`, an assignment into a tensor (`x[:, 0] = 1`), a method
called by its class (`torch.Tensor.add(x, y)` instead of `x.add(y)`). Or it changes a tensor in
place while another one in the same memory is read later (`x.flatten(1).mul_(2)` and then `x`; a
slice of `x`, then `x += 1` and the slice), which the edges of a graph cannot say; the same holds
for `torch.add(a, b, out=c)`. Or it assigns a tensor to the module (`self.state = ...`) and reads it
in the next call: the graph computes the same in every call.

The diagnostic points at the last line of the model's own code that was running.

**Mend.** Write the step with torch functions; or put it into a function and name it in
`prepare: {wrap: [my_function]}`; or name its module in `non_traceable_module_name`.
""",
    ),
    Code(
        "QS503",
        "forward does different things in training and in evaluation",
        """
The prepared module is one graph for every stage. Code under `if self.training:` or
`if not self.training:` would be lost in one of them, silently, so it is an error here. Dropout and
batch norm are kept as they are: they know the mode themselves.

**Mend.** Move the code that only one mode needs out of the prepared modules (into the loss, the
post-process, or the model around them), or prepare the parts separately with `quantize: {modules:
...}`. A module that returns one tensor in both modes (drop path, a batch norm with code of its own)
is kept as it is with `prepare: {non_traceable_module_class: [...]}`: its code runs in both modes,
nothing in it is quantized, and conversion reads what it computes in evaluation.

```python
def forward(self, x):
    y = self.head(x)
    return (y, self.aux(x)) if self.training else y      # QS503
```
""",
    ),
    Code(
        "QS504",
        "the model fails on its example input",
        """
Before preparing, the float model runs once on an example image of `model.input`'s size. It raised
an error of its own; nothing of it has to do with quantization.

**Mend.** Compare `model.input` (size, channels) with what the model takes, or mend the model.
""",
    ),
    Code(
        "QS505",
        "the model has no such module",
        """
A path under `quantize.modules`, or in `standalone_module_name`, `non_traceable_module_name` or
`preserved_attributes`, does not exist in the model, or the module did not run on the example
input.

**Mend.** Use the paths that `print(model)` shows, relative to the prepared module for everything
inside `prepare`.
""",
    ),
    Code(
        "QS506",
        "a dead branch: it reaches no output",
        """
The prepared module computes something that none of its outputs depends on, or holds a module with
parameters that `forward` never calls. Such a branch is dropped from the graph: it gets no
fake-quants, is not trained by what comes out, and does not ship. Often it is a slip: a result that
was overwritten, a head that was built but forgotten.

**Mend.** Return the result, or remove the code or the module. Where it is meant (a head for
training alone), build it outside the prepared module, or leave the warning be.

```python
def forward(self, x):
    y = self.branch(x)       # QS506: overwritten in the next line
    y = self.conv(x)
    return y
```
""",
    ),
    Code(
        "QS512",
        "forward depends on the number of images in the batch",
        """
The batch is open: training, evaluation and the chip take different numbers of images, and a
compiled model has no such number at all. `forward` may pass it on as a size (`x.view(x.shape[0],
-1)`, `torch.zeros(x.shape[0], 1)`), but here it loops over the images, decides by how many there
are, or takes the number into a computation (`x / x.numel()`).

**Fix.** Compute with all images at once, and with the sizes of one image.

```python
def forward(self, x):
    x = x / x.numel()                                    # QS512
    x = x / x.shape[1:].numel()                          # the size of one image
    y = torch.cat([self.f(x[i:i + 1]) for i in range(len(x))])   # QS512
    return self.f(x)
```
""",
    ),
    Code(
        "QS513",
        "forward decided otherwise for the example input",
        """
A prepared module is one fixed sequence of ops. Where `forward` decides by a size (`if h > 8`, `for
i in range(h)`, a dict with sizes for keys), the decision is the one of `prepare`'s example input.
This input has another size, for which the model's own code would have done something else.

Sizes that are no decisions follow each input: `y[:, :, :h]`, `view(b, -1, h * w)`, `h // 2`,
`int(h * 0.5)`, `min(h, 64)`, `torch.arange(h)`.

**Fix.** Feed inputs of the size that the model was prepared with (`model.input.size` of the spec),
or prepare the model with an example of this size, or write the step without a decision.

```python
def forward(self, x):
    rows = [x[:, :, i] for i in range(x.shape[2])]       # QS513 at another height
    return torch.stack(rows[::-1], 2)                    # x.flip(2) follows each input
```
""",
    ),
    Code(
        "QS516",
        "a name that cannot stand in Python code",
        """
A traced model is Python code that names modules, parameters and buffers as attributes. Keywords
(`in`, `class`, `None`), quotes, backslashes, line feeds, and letters that Python replaces by others
(`ﬁ` by `fi`) cannot be written there; `self` at the top of a model would hide the model. Such names
come from the keys of a ModuleDict, from `add_module` and from `register_buffer`.

**Fix.** Choose another name where the model registers the module or tensor, for the key and for
each use of it; in a checkpoint of the old name, rename the keys of the state dict.

```python
self.branch = nn.ModuleDict({"in": conv})      # QS516
self.branch = nn.ModuleDict({"in_": conv})
```
""",
    ),
)

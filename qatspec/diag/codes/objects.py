"""QS507 to QS511: model objects that cannot be prepared as they are."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS507",
        "a model object that cannot be prepared",
        """
`prepare` reads the Python code of each module's class and keeps its parameters. That needs an
ordinary `torch.nn.Module`. It is not given where the model is a function; is scripted
(`torch.jit`), compiled (`torch.compile`, `module.compile()`) or wrapped for several devices
(`DataParallel`, `DistributedDataParallel`); where `forward` was replaced on the instance or
`__call__` is overridden, so that the code of the class is not what runs; or where parameters hold
no numbers yet (lazy modules, the meta device).

**Fix.** Pass the module inside the wrapper, or do what the help line says, before `prepare`;
compile and wrap the prepared model instead.

```python
prepared = prepare(compiled._orig_mod, (images,), qconfig="horizon_qat")
model = torch.compile(prepared.model)
```
""",
    ),
    Code(
        "QS508",
        "a hook on the model",
        """
A prepared module runs the graph that tracing recorded, and an integer Program runs no Python code.
A forward hook, forward pre-hook or backward hook of the float model would therefore be lost in one
of them. qatspec cannot tell a hook that changes a result from one that only watches, so it refuses
all of them: those of modules, those of parameters (`parameter.register_hook`) and global ones.

State dict hooks are kept. The hooks by which `torch.nn.utils.weight_norm`, `spectral_norm` and
`prune` compute a weight are kept too: the weight is computed whenever it is read.

**Fix.** Write what changes a result into `forward`. Remove a hook that only watches before
`prepare`, and set it again on the prepared model.

```python
handle.remove()
prepared = prepare(model, (images,), qconfig="horizon_qat")
prepared.model.get_submodule("backbone").register_forward_hook(watch)
```
""",
    ),
    Code(
        "QS509",
        "a tensor that is not plain float32",
        """
Fake-quantization, scales and the comparison with the integer Program are defined for float32. A
parameter of a prepared module, the statistics of a batch norm, or a value that would be quantized
is of another dtype (float16, bfloat16, float64, complex), sparse, quantized already, or an instance
of a subclass of `torch.Tensor`.

**Fix.** Call `model.float()` before `prepare` and pass float32 example inputs. Where the model's
code casts a tensor (`x.half()`, `torch.autocast`), remove the cast. Mixed precision in training is
a setting of the trainer, not of the model.
""",
    ),
    Code(
        "QS510",
        "random numbers in evaluation",
        """
In eval mode the model draws random numbers: `F.dropout(x)`, whose `training` is True unless the
call says otherwise, a dropout class with a `forward` of its own, `torch.randn_like(x)`. Its results
then differ from call to call, and an integer Program cannot do the same.

**Fix.** Pass the mode to the function, or use the module, which knows the mode itself.

```python
x = F.dropout(x, 0.1, training=self.training)
```
""",
    ),
    Code(
        "QS511",
        "a model that cannot be copied",
        """
`prepare` leaves the float model as it is and works on a deep copy. An attribute of the model (a
lock, an open file, a generator, a tensor that is the result of a computation with gradients) cannot
be copied by Python.

**Fix.** Create the object where it is used instead of storing it in the module; store
`tensor.detach()` instead of a computed tensor; or let `prepare` change the model itself, with
`prepare(model, ..., inplace=True)`.
""",
    ),
)

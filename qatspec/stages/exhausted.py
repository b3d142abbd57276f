"""What a training says whose batches are too large for the memory."""

from __future__ import annotations

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS946
from qatspec.spec import Spec, Trainer


def too_large(spec: Spec, name: str, size: int, error: BaseException) -> DiagnosticError:
    """Return QS946 with the key of the batch size of stage `name`, its value `size`, and a smaller
    one to try."""
    stage, trainer = spec.stages[name], spec.stages[name].trainer or Trainer()
    role = "qat" if name == "qat" and "qat" in spec.document.data["data"] else "train"
    key, at = "batch_size", f"/data/{role}"
    if stage.batch_size is not None:
        key, at = "batch_size_per_gpu", stage.at
    advice = (
        f"write `{key}: {size // 2}`, and `accumulate: {2 * trainer.accumulate}` in the trainer to "
        "keep the size of a step"
    )
    if f"{at}/{key}" in spec.chosen_sizes:
        advice = f"{advice}, in place of `auto`, whose record another process or machine made"
    elif size > 1:
        advice += f"; or `{key}: auto`, which measures a step and chooses a size that fits"
    if size == 1:
        advice = "lower the input's size, or use a device with more memory"
    words = str(error).partition("\n")[0]
    message = f"there is not enough memory for `{key}: {size}` in stage {name}: {words}"
    return QS946.error(
        message.rstrip(": "), help=f"{advice}; finished files are kept", at=f"{at}/{key}"
    )

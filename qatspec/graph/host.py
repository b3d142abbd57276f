"""The float parts of a model around its Program, which run on the host."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True, slots=True)
class Host:
    """The float parts of a model around its Program.

    before, after: their modules and ops, in order, for people. pre: inputs of the model to those of
    the Program, as real numbers; post: outputs of the Program, as real numbers, and where it reads
    them the inputs of the model, to what forward returns; None where there is nothing to do.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    pre: fx.Graph | None
    post: fx.Graph | None

"""The text of a spec that `qatspec new` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qatspec.registry import registry
from qatspec.source.write import flow

#: Presets that every march can be trained with. A march with presets of its own has these endings
#: behind its name.
_ANY_MARCH, _CALIBRATION, _CALIBRATED = "horizon", "calibration", "calibrated"


@dataclass(frozen=True, kw_only=True)
class Task:
    """How a spec begins for a task.

    model      registered name; params: besides num_classes.
    size       (height, width) of the input; None: after the pictures, as multiples of `multiple`
               and at most `limit`.
    image      keys of `model.input` that say how pictures are normalised; why: comment on them.
    augment    of the training pictures.
    quantize   what is prepared, as YAML.
    lr         learning rate of the float stage.
    smoke      what `run --smoke` merges over the spec.
    """

    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    multiple: int = 32
    limit: int = 224
    image: Mapping[str, Any]
    why: str
    augment: Mapping[str, Any]
    quantize: str
    lr: float = 0.002
    smoke: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a spec says.

    said      lines of its first comment.
    task      how it begins; model_params: those of the model, size: (height, width) of its input.
    dataset   name of the data set; roles: params of train, calibration and val.
    smoke     what `run --smoke` merges over the rest, as YAML lines.
    """

    name: str
    march: str
    said: Sequence[str]
    task: Task
    model_params: Mapping[str, Any]
    size: Sequence[int]
    dataset: str
    roles: Mapping[str, Mapping[str, Any]]
    batch: int
    workers: int
    smoke: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The spec as YAML."""
        task = self.task
        calibration, calibrated = presets(self.march)
        said = "\n".join(f"# {_one_line(line)}".rstrip() for line in self.said)
        data = "\n".join(
            f"  {role}:\n    type: {self.dataset}\n    params:\n{_lines(params)}\n"
            f"    batch_size: ${{vars.batch_size}}\n    workers: {self.workers}"
            for role, params in self.roles.items()
        )
        smoke = f"\nsmoke:\n{_lines(self.smoke, 2)}\n" if self.smoke else ""
        return f"""\
# yaml-language-server: $schema=qatspec.schema.json
#
{said}
qatspec: 1
name: {flow(self.name)}
march: {self.march}
seed: 0

vars: {{float_epochs: 50, calibration_steps: 20, qat_epochs: 5, batch_size: {self.batch}}}

model:
  type: {task.model}
  params: {flow(self.model_params)}
{task.why}
  input: {flow({"size": list(self.size), **task.image})}

data:
{data}

quantize:
{task.quantize}

stages:
  float:
    trainer:
      epochs: ${{vars.float_epochs}}
      optimizer: {{type: adamw, lr: {task.lr}}}
      scheduler: {{type: cosine, warmup_steps: 10}}
  calibration: {{trainer: {{steps: "${{vars.calibration_steps}}"}}, qconfig: {calibration}}}
  qat:
    trainer:
      epochs: ${{vars.qat_epochs}}
      optimizer: {{type: adamw, lr: 0.0002, weight_decay: 0.00005}}
    qconfig: {calibrated}
  convert: {{}}
  compile: {{}}
{smoke}"""


def presets(march: str) -> tuple[str, str]:
    """The qconfig presets of calibration and of qat after it: the march's own where it has some."""
    known = registry().names("qconfig")
    mine = tuple(f"{march}_{end}" for end in (_CALIBRATION, _CALIBRATED))
    first, second = mine if set(mine) <= set(known) else (
        f"{_ANY_MARCH}_{_CALIBRATION}", f"{_ANY_MARCH}_{_CALIBRATED}"
    )  # fmt: skip
    return first, second


def _one_line(text: str) -> str:
    """A text as a YAML comment may hold it."""
    return "".join(c if c.isprintable() else " " for c in text)


def _lines(values: Mapping[str, Any], indent: int = 6) -> str:
    return "\n".join(f"{' ' * indent}{flow(key)}: {flow(value)}" for key, value in values.items())

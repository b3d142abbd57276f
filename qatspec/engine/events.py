"""What the `data` of each StageEvent holds. Plugins see events by `qatspec_stage_event`, callers of
`run` by `on_event`; keys may be added, none is ever taken away."""

from __future__ import annotations

#: kind -> keys that are always there
EVENTS: dict[str, tuple[str, ...]] = {
    # spec: its name; steps: the stages that are asked for; digest: of the plan; settings: pointer
    # -> value of the spec; track: names of the trackers that are asked for
    "run_started": ("spec", "steps", "workdir", "digest", "settings", "track"),
    # before the first training: the names of the stages that are tried on a batch
    "rehearsal": ("stages",),
    # number of total; resumed_from: the optimizer step it goes on from, None from the start
    "step_started": ("number", "total", "resumed_from"),
    "step_cached": ("metrics",),
    # unit "step", with images (training also: epoch, epochs, loss, losses, lr, grad_norm), or
    # "image" (evaluating, with phase "evaluate"); a GPU's steps are reported a few at a time
    "progress": ("done", "total", "unit"),
    # of a validation: step, epoch where there are epochs, and every metric by its name
    "metrics": ("step",),
    # of a validation: Dataset.details, its metrics, which of them chooses, the number of images
    "details": ("details", "metrics", "metric", "images"),
    # of fake-quants at the end of an epoch: path -> number, or [least, median, largest] of channels
    "scales": ("step", "scales"),
    # names of the checkpoints (last, best, epoch-0001) that are written next
    "checkpoint": ("step", "names"),
    # images a second since the last one of these; the most memory so far: of the process, and of
    # the GPU, None without one
    "resources": ("step", "images_per_second", "memory_bytes", "device_memory_bytes"),
    # of a training: part -> seconds; steps. Reported where `profile` is asked for
    "profile": ("seconds", "steps"),
    # of the tutorial: at a pointer of the spec, which is at `place` (file:line)
    "advice": ("at", "place", "advice", "reason"),
    # message, and the diagnostic where it is one
    "log": ("message",),
    "step_finished": ("metrics", "seconds"),
    # error: its message; status: failed or interrupted
    "step_failed": ("error", "status"),
    # summary: path of summary.json
    "run_finished": ("summary",),
}

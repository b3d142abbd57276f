"""What the `data` of each StageEvent holds. Plugins see events by `qatspec_stage_event`, callers of
`run` by `on_event`; keys may be added, none is ever taken away."""

from __future__ import annotations

#: kind -> keys that are always there
EVENTS: dict[str, tuple[str, ...]] = {
    # spec: its name; steps: the stages that are asked for
    "run_started": ("spec", "steps"),
    # number of total; resumed_from: the optimizer step it goes on from, None from the start
    "step_started": ("number", "total", "resumed_from"),
    "step_cached": ("metrics",),
    # unit "step" (training also: epoch, epochs, images, loss, losses, lr, grad_norm) or "image"
    # (evaluating, with phase "evaluate"); a GPU's steps are reported a few at a time
    "progress": ("done", "total", "unit"),
    # of a validation: step, epoch where there are epochs, and every metric by its name
    "metrics": ("step",),
    # of a training: part -> seconds; steps. Reported where `profile` is asked for
    "profile": ("seconds", "steps"),
    # message, and the diagnostic where it is one
    "log": ("message",),
    "step_finished": ("metrics", "seconds"),
    # error: its message; status: failed or interrupted
    "step_failed": ("error", "status"),
    # summary: path of summary.json
    "run_finished": ("summary",),
}

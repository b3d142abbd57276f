"""Runs a Plan: digests, cache, resume, events, distributed launch."""

from qatspec.engine.execute import run as run

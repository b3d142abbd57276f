"""Runs a Plan: digests, cache, resume, events, distributed launch."""

from qatspec.engine.execute import run

__all__ = ["run"]

"""The kit: every check, in order, and how they are run. Needs no pytest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qatspec.registry import Plugin, Registry, registry
from qatspec.testing import records
from qatspec.testing.subject import ENTRY_POINT, Skipped, Subject, in_words
from qatspec.types import Lazy, lazy

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold. kind: it is asked of each record of that kind, as
    run(subject, record); None: once of the plugin, as run(subject). It raises where it does not."""

    name: str
    kind: str | None
    run: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check said of one record ("model fcos"), or of the plugin."""

    check: str
    item: str
    status: Status
    reason: str = ""


def _of(kind: str, file: str, *names: str) -> tuple[Check, ...]:
    """Checks of one kind, in a file of this package that may import torch."""
    made: list[tuple[str, Lazy]] = [(n, lazy(f"qatspec.testing.{file}:{n}")) for n in names]
    return tuple(Check(f"{kind}_{name}", kind, run) for name, run in made)


CHECKS: tuple[Check, ...] = (
    Check("api_version", None, records.api_version),
    Check("hooks_return_records", None, records.hooks_return_records),
    Check("registers_something", None, records.registers_something),
    Check("names_are_unique", None, records.names_are_unique),
    Check("loading_imports_no_torch", None, records.loading_imports_no_torch),
    Check("summaries_are_there", None, records.summaries_are_there),
    Check("named_callables_exist", None, records.named_callables_exist),
    *(
        Check(f"{kind}_{run.__name__}", kind, run)
        for kind in ("model", "dataset", "march")
        for run in (records.schema_is_closed_and_described, records.defaults_obey_the_schema)
    ),
    *_of("model", "models", "builds_and_traces", "is_deterministic", "losses_are_finite"),
    *_of("dataset", "datasets", "samples_in_any_order", "fingerprint_is_stable"),
    *_of(
        "dataset",
        "datasets",
        "takes_keys_that_the_input_has",
        "recognizes_no_empty_folder",
        "fits_pictures_as_it_says",
    ),
    *_of("qconfig", "presets", "qconfig_builds"),
    *_of("prepare_config", "presets", "prepare_config_prepares"),
    *_of("observer", "observers", "survives_every_batch", "is_deterministic", "state_is_kept"),
    *_of("quant_handler", "handlers", "annotate_is_pure", "lower_equals_the_fake_quant"),
    *_of("quant_handler", "handlers", "to_onnx_equals_the_fake_quant"),
    *_of("quant_handler", "handlers", "lower_equals_the_reference"),
    *_of("fuse_pattern", "patterns", "fusing_keeps_eval_numerics", "fusing_again_changes_nothing"),
    *_of("fuse_pattern", "patterns", "refusals_have_reasons"),
    *_of("march", "marches", "supports_what_it_compiles", "same_program_same_bytes"),
    *_of("march", "marches", "run_equals_interpret"),
)


def conform(plugin: object, checks: Sequence[Check] = CHECKS) -> list[Outcome]:
    """What `checks` say of a plugin: a module, or an object that holds hook implementations.

    The plugin need not be installed; it takes part in the process-wide registry meanwhile.
    """
    under_test = Plugin(ENTRY_POINT, "under-test", "0", plugin)
    with registry().added(under_test):
        return [outcome for check in checks for outcome in _ask(_subject(plugin), check)]


@functools.lru_cache(maxsize=16)
def _subject(plugin: object) -> Subject:
    """One for all checks of a plugin, also where each check is a test of its own: compiling every
    example is most of the kit's time."""
    return Subject(plugin, Registry([Plugin(ENTRY_POINT, "under-test", "0", plugin)]))


def _ask(subject: Subject, check: Check) -> Iterator[Outcome]:
    if check.kind is None:
        yield _outcome(check, "plugin", subject)
        return
    for record in subject.records(check.kind):
        yield _outcome(check, f"{check.kind} {record.name}", subject, record)


def _outcome(check: Check, item: str, *arguments: Any) -> Outcome:
    try:
        check.run(*arguments)
    except Skipped as reason:
        return Outcome(check.name, item, "skipped", str(reason))
    except Exception as error:  # noqa: BLE001  somebody else's code may raise anything
        words = str(error) if isinstance(error, AssertionError) else in_words(error)
        return Outcome(check.name, item, "failed", words)
    return Outcome(check.name, item, "passed")

"""What the files that a spec names say without being opened: are they there, and do the data sets
have as many classes as the model?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS914
from qatspec.plan.provided import weights_finding, with_smoke_run
from qatspec.registry import Registry, registry as installed
from qatspec.spec import Spec, weights_file
from qatspec.spec.model import DataRole


def data_findings(spec: Spec, registry: Registry | None = None) -> tuple[Diagnostic, ...]:
    """Look for the weights and at each data set whose definition has `classes`, with places.

    Returns QS901, QS905 and QS915 for weights that cannot be read, what `classes` raises (QS910 for
    missing data), and QS914: an error where the data has more classes than the model, a warning
    where the model has more."""
    names = registry or installed()
    diagnostics = list(_weights(spec))
    model = names.model(spec.model.type)
    outputs = model.classes(spec.model.params) if model.classes else None
    others: dict[int, list[DataRole]] = {}
    for role in {data.at: data for data in spec.data.values()}.values():
        try:
            classes = _classes(spec, role, names)
        except DiagnosticError as error:
            told = with_smoke_run(error, spec).diagnostics
            diagnostics += [_of_role(d, role.dataset.at) for d in told]
            continue
        if classes is not None and outputs is not None and classes != outputs:
            others.setdefault(classes, []).append(role)
    diagnostics += [_other_number(spec, roles, n, outputs or 0) for n, roles in others.items()]
    return spec.document.resolve(diagnostics)


def _weights(spec: Spec) -> Iterator[Diagnostic]:
    """What keeps files of weights from being read."""
    for stage in spec.stages.values():
        path = weights_file(spec, stage.solver)
        if path is not None and (finding := weights_finding(path, stage.solver.at)) is not None:
            yield finding


def _classes(spec: Spec, role: DataRole, names: Registry) -> int | None:
    record = names.dataset(role.dataset.type)
    if record.classes is None:
        return None
    with names.attribute_errors(record, f"classes of data set `{record.name}`"):
        class_names_of = record.classes(role.dataset.params, Path(spec.document.path).parent)
        return None if class_names_of is None else len(class_names_of)


def _of_role(diagnostic: Diagnostic, at: str) -> Diagnostic:
    """The diagnostic at the role's data set, with the line of a file that it is about as a note."""
    span = diagnostic.span
    notes = (Note("in this file", span=span),) if span is not None and span.line else ()
    return replace(diagnostic, at=at, span=None, notes=(*diagnostic.notes, *notes))


def _other_number(spec: Spec, roles: Sequence[DataRole], classes: int, outputs: int) -> Diagnostic:
    written = "/model/params/num_classes" in spec.document.spans
    more = classes > outputs
    return QS914.diagnostic(
        f"the model tells {outputs} classes apart, the data set has {classes}"
        + ("" if more else f": {outputs - classes} of them are never trained"),
        severity="error" if more else "warning",
        help=f"set `num_classes: {classes}`, or name the data that the model is for",
        at="/model/params/num_classes" if written else "/model/type",
        notes=tuple(Note(f"data with {classes} classes", at=role.dataset.at) for role in roles),
    )

"""Dependencies of a step outside the spec: data, weights and plugins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS901, QS905, QS910, QS915
from qatspec.files import how_to_read, open_file, why_unreadable
from qatspec.plan.model import PluginRef
from qatspec.plan.weight_files import (
    MissingPackageError,
    UnusableWeightsError,
    weight_files,
    weight_format,
)
from qatspec.registry import Registry
from qatspec.spec import Spec
from qatspec.spec.model import QConfigRules, StageName

#: stage -> the role whose examples its tensors depend on
TRAINED_ON: dict[str, str] = {"float": "train", "calibration": "calibration", "qat": "qat"}


def fingerprint(spec: Spec, role: str, names: Registry) -> str:
    """The digest of a role's data, as its data set gives it. Raises DiagnosticError where data is
    missing, PluginFault where the data set's code raises."""
    dataset = spec.data[role].dataset
    record = names.dataset(dataset.type)
    base = Path(spec.document.path).parent
    try:
        with names.attribute_errors(record, f"fingerprint of data set `{dataset.type}`"):
            digest_of_data: Any = record.fingerprint(dataset.params, base)
            if not isinstance(digest_of_data, str):
                message = f"fingerprint() of data set `{dataset.type}` returned a "
                message += f"{type(digest_of_data).__name__}; expected a text"
                raise names.interface_fault(message, "fingerprint", record=record)
            return digest_of_data
    except DiagnosticError as error:
        raise placed(with_smoke_run(error, spec), dataset.at) from error


def with_smoke_run(error: DiagnosticError, spec: Spec) -> DiagnosticError:
    """The error; where data are not there (QS910) and the spec's `smoke` names others, its help
    says so."""
    smoke = spec.document.data.get("smoke")
    if not isinstance(smoke, dict) or "data" not in smoke:
        return error
    way = f"`qatspec run {spec.document.path} --smoke` tries the spec with the data of its `smoke`"
    diagnostics = [
        replace(d, help=f"{d.help}; {way}") if d.code == QS910 else d for d in error.diagnostics
    ]
    return DiagnosticError(diagnostics, error.texts)


def weights_sha256(weights: Path, at: str) -> str:
    """The sha256 of a file of weights and, where it is an index, of its shards. Raises
    DiagnosticError as `weights_finding` tells."""
    if (finding := weights_finding(weights, at)) is not None:
        raise DiagnosticError(finding)
    sha256 = hashlib.sha256()
    for path in weight_files(weights):
        with open_file(path) as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
    return sha256.hexdigest()


def weights_finding(weights: Path, at: str) -> Diagnostic | None:
    """What keeps a file of weights from being read, as far as it is known without torch: QS905,
    QS901 for a format without a state dict, QS915 for a missing package. at: pointer of the solver
    that names it."""
    path = weights
    try:
        for path in weight_files(weights):
            weight_format(path)
    except OSError as error:
        return QS905.diagnostic(
            f"cannot read the weights `{path}`: {why_unreadable(error)}",
            help=how_to_read(error, "correct `weights`, which is relative to the spec"),
            at=f"{at}/weights",
        )
    except UnusableWeightsError as error:
        return not_weights(path, error, f"{at}/weights")
    except MissingPackageError as error:
        return missing_package(path, error, f"{at}/weights")
    return None


def not_weights(path: Path, error: UnusableWeightsError, at: str | None) -> Diagnostic:
    """QS901 for a file whose format holds no weights that can be read."""
    return QS901.diagnostic(
        f"`{path.name}` holds no weights that can be read safely: {error}",
        help=error.advice,
        at=at,
        span=Span(file=str(path)) if at is None else None,
    )


def missing_package(path: Path, error: MissingPackageError, at: str | None) -> Diagnostic:
    """QS915 for a file whose format needs a package that is not installed."""
    return QS915.diagnostic(
        f"`{path.name}` is a file of {error.name}, which needs the package `{error.name}`",
        help=f"pip install {error.name}",
        at=at,
    )


def placed(error: DiagnosticError, at: str) -> DiagnosticError:
    """The error of a data set, which does not know the role that names it, with its places.

    at: JSON pointer of the role. It is the place of diagnostics without one; a pointer that does
    not begin with `/` leads on from it."""
    diagnostics = [
        replace(each, at="/".join(filter(None, (at, each.at))))
        if each.span is None and not (each.at or "").startswith("/")
        else each
        for each in error.diagnostics
    ]
    return DiagnosticError(diagnostics, error.texts)


def plugins_of(spec: Spec, name: StageName, names: Registry) -> Iterable[PluginRef]:
    """The plugins whose code affects the tensors of a step, by what they provide."""
    used: list[tuple[str, str]] = []
    if name in ("convert", "compile"):
        used.append(("march", spec.march))
    if name != "compile":
        used.append(("model", spec.model.type))
    if name in TRAINED_ON:
        used.append(("dataset", spec.data[TRAINED_ON[name]].dataset.type))
    if name in ("calibration", "qat", "convert"):
        for leaf in spec.quantization(name):
            used += _rules(leaf.qconfig)
        used += [("observer", o) for o in names.names("observer")]
        used += [("fuse_pattern", p) for p in names.names("fuse_pattern")]
        used += [("quant_handler", h) for h in names.names("quant_handler")]
        used += [("prepare_config", p) for p in names.names("prepare_config")]
    return (plugin_of(kind, item, names) for kind, item in sorted(set(used)))


def plugin_of(kind: str, name: str, names: Registry) -> PluginRef:
    """The plugin that registers `name`. Raises DiagnosticError as the registry's lookups do."""
    provider = names.provider(kind, name)
    return PluginRef(
        kind=kind,
        name=name,
        entry_point=provider.entry_point,
        dist=provider.dist,
        version=provider.version,
        source=provider.source_sha256,
    )


def sources(plugins: Iterable[PluginRef]) -> dict[str, str]:
    """The keys of a step that name the code of its plugins. Two file plugins may have one name."""
    codes_of: dict[str, dict[str, None]] = {}
    for ref in plugins:
        code = f"{ref.dist}=={ref.version} {ref.source}"
        codes_of.setdefault(f"plugin:{ref.entry_point}", {})[code] = None
    return {key: " + ".join(sorted(codes)) for key, codes in codes_of.items()}


def _rules(rules: QConfigRules | None) -> list[tuple[str, str]]:
    presets = [rule.preset for rule in rules.rules if rule.preset] if rules else []
    return [("qconfig", preset) for preset in presets]

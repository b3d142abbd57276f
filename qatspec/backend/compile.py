"""`compile`: the registered march's compiler, with its options checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS803, QS806
from qatspec.graph.arguments import port_name
from qatspec.ir import Port
from qatspec.program import Artifact, Program, RuntimeInput
from qatspec.registry import registry
from qatspec.schema import check, with_defaults
from qatspec.spec import GivenInput, InputSpec, check_image, check_runtime_input, feeds
from qatspec.types import RUNTIME_INPUT, JSONSchema


def compile(  # noqa: A001 - the arrow's name
    program: Program,
    march: str,
    *,
    image: InputSpec | Mapping[str, GivenInput] | None = None,
    **options: Any,
) -> Artifact:
    """Compile a Program for a march.

    program  what `lower` gave.
    march    the registered name ("bayes").
    image    what the model is trained on (a spec's `model.input`, or its inputs by the names of
             forward's arguments, `Spec.inputs`); needed for rt_input_type.
    options  those of the march's own schema (bernoulli2 and bayes: opt, cores, verify; onnxruntime:
             opt; all three: rt_input_type, rt_input_layout). An absent option takes its default.

    Returns the Artifact. Raises DiagnosticError: QS301 for an unknown march, QS803 for options,
    QS806 where it cannot be fed what they ask for, and what the march's compiler raises (QS801 for
    ops that it cannot run, QS812 where the encoded commands do not compute the Program).
    """
    record = registry().march(march)
    filled_options = _filled(march, record.options, options)
    fed = _runtime_inputs(program, filled_options, image)
    march_options = {
        name: value for name, value in filled_options.items() if name not in RUNTIME_INPUT
    }
    with registry().attribute_errors(record, f"march `{march}`, compiling `{program.name}`,"):
        compiled = record.compile(program, march_options)
        if not isinstance(compiled, Artifact):
            raise TypeError(f"it returns a {type(compiled).__name__}, not an Artifact")
    artifact = replace(compiled, image=program.image)
    return artifact.fed_with(*fed)


def _runtime_inputs(
    program: Program,
    options: dict[str, Any],
    image: InputSpec | Mapping[str, GivenInput] | None,
) -> list[RuntimeInput]:
    """What the options say the file is fed, of each port that is fed something else than its own
    integers."""
    inputs = _inputs(program, image)
    wrong = [
        d for given in inputs.values() if isinstance(given, InputSpec) for d in check_image(given)
    ]
    if wrong := [*wrong, *check_runtime_input(options, inputs)]:
        raise DiagnosticError(wrong)
    made = []
    for name, feed in feeds(options, inputs).items():
        if feed.is_own:
            continue
        if image is None and feed.kind != "featuremap":
            raise _cannot_feed(
                f"nothing says what the model is trained on, which is fed {feed.kind}",
                "compile(..., image=InputSpec(size=(H, W), format='rgb', mean=128.0, std=128.0))",
            )
        port, given = _port(program, name, feed.kind), inputs[name]
        assert isinstance(given, InputSpec)
        if feed.kind != "featuremap" and port.shape != given.shape:
            raise _cannot_feed(f"the program takes {port.shape}, not one image of {given.size}")
        made.append(
            RuntimeInput(
                kind=feed.kind,
                layout=feed.layout,
                format=given.format,
                mean=given.mean,
                std=given.std,
                port=port,
            )
        )
    return made


def _inputs(
    program: Program, image: InputSpec | Mapping[str, GivenInput] | None
) -> Mapping[str, GivenInput]:
    """The model's inputs by name, "" where the only one has none."""
    if isinstance(image, InputSpec):
        return {"": image}
    if image is not None:
        return image
    shape = program.inputs[0].shape
    return {"": InputSpec(size=(shape[1], shape[2]) if len(shape) == 3 else (1, 1))}


def _port(program: Program, name: str, kind: str) -> Port:
    """The port of an input that is to be fed `kind`. Raises DiagnosticError QS806."""
    if not name:
        ports = program.inputs
        if len(ports) != 1 or len(ports[0].shape) != 3:
            raise _cannot_feed(f"a program of other inputs than one image cannot be fed {kind}")
        return ports[0]
    for port in program.inputs:
        if port.name == port_name(name):
            return port
    raise _cannot_feed(
        f"`{name}` cannot be fed {kind}: float ops on the host read it, not the program",
        f"delete `{name}` in `rt_input_type`, or move those ops out of forward",
    )


def _cannot_feed(message: str, help_: str = "delete `rt_input_type`") -> DiagnosticError:
    return QS806.error(message, help=help_)


def _filled(march: str, schema: JSONSchema, options: dict[str, Any]) -> dict[str, Any]:
    """Check `options` as those of a spec are checked, and fill in the defaults of `schema`.

    Raises DiagnosticError QS803: these options come from a caller, so they have no place in a file.
    """
    if wrong := check(options, schema):
        raise DiagnosticError(
            QS803.diagnostic(f"compile options of {march}: {problem.message}", help=problem.help)
            for problem in wrong
        )
    return cast("dict[str, Any]", with_defaults(schema, options))

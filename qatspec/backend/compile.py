"""`compile`: the registered march's compiler, with its options checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS803, QS806
from qatspec.program import Artifact, Program, RuntimeInput
from qatspec.registry import registry
from qatspec.schema import check, with_defaults
from qatspec.spec import InputSpec, check_image, check_runtime_input, runtime_input
from qatspec.types import RUNTIME_INPUT, JSONSchema


def compile(  # noqa: A001 - the arrow's name
    program: Program, march: str, *, image: InputSpec | None = None, **options: Any
) -> Artifact:
    """Compile a Program for a march.

    program  what `lower` gave.
    march    the registered name ("bayes").
    image    what the model is trained on (a spec's `model.input`); needed for rt_input_type.
    options  those of the march's own schema (bernoulli2 and bayes: opt, cores, verify; onnxruntime:
             opt; all three: rt_input_type, rt_input_layout). An absent option takes its default.

    Returns the Artifact. Raises DiagnosticError: QS301 for an unknown march, QS803 for options,
    QS806 where it cannot be fed what they ask for, and what the march's compiler raises (QS801 for
    ops that it cannot run, QS812 where the encoded commands do not compute the Program).
    """
    record = registry().march(march)
    filled_options = _filled(march, record.options, options)
    fed = _runtime_input(program, filled_options, image)
    march_options = {
        name: value for name, value in filled_options.items() if name not in RUNTIME_INPUT
    }
    with registry().attribute_errors(record, f"march `{march}`, compiling `{program.name}`,"):
        compiled = record.compile(program, march_options)
        if not isinstance(compiled, Artifact):
            raise TypeError(f"it returns a {type(compiled).__name__}, not an Artifact")
    artifact = replace(compiled, image=program.image)
    return artifact.fed_with(fed) if fed else artifact


def _runtime_input(
    program: Program, options: dict[str, Any], image: InputSpec | None
) -> RuntimeInput | None:
    """What the options say the file is fed; None: the Program's own integers."""
    kind, layout = runtime_input(options)
    if (kind, layout) == ("featuremap", "NCHW"):
        return None
    if len(program.inputs) != 1 or len(program.inputs[0].shape) != 3:
        raise _cannot_feed(f"a program of other inputs than one image cannot be fed {kind}")
    port = program.inputs[0]
    if image is None and kind != "featuremap":
        raise _cannot_feed(
            f"nothing says what the model is trained on, which is fed {kind}",
            "compile(..., image=InputSpec(size=(H, W), format='rgb', mean=128.0, std=128.0))",
        )
    image = image or InputSpec(size=(port.shape[1], port.shape[2]))
    wrong = [*check_image(image), check_runtime_input(options, image)]
    if found := [diagnostic for diagnostic in wrong if diagnostic]:
        raise DiagnosticError(found)
    if kind != "featuremap" and port.shape != (image.channels, *image.size):
        raise _cannot_feed(f"the program takes {port.shape}, not one image of {image.size}")
    return RuntimeInput(
        kind=kind, layout=layout, format=image.format, mean=image.mean, std=image.std, port=port
    )


def _cannot_feed(message: str, help_: str = "delete `rt_input_type`") -> DiagnosticError:
    return QS806.error(message, help=help_)


def _filled(march: str, schema: JSONSchema, options: dict[str, Any]) -> dict[str, Any]:
    """Check `options` as those of a spec are checked, and fill in the defaults of `schema`.

    Raises DiagnosticError QS803: these options come from a caller, so they have no place in a file.
    """
    if wrong := check(options, schema):
        raise DiagnosticError(
            QS803.diagnostic(f"compile options of {march}: {found.message}", help=found.help)
            for found in wrong
        )
    return cast("dict[str, Any]", with_defaults(schema, options))

"""Whatever the bytes, a spec ends in diagnostics; places re-slice; resolving is repeatable."""

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings, strategies as st

from qatspec.diag import DiagnosticError
from qatspec.plan import resolve
from qatspec.render import FORMATS, render
from qatspec.source import load_document, split_lines
from qatspec.source.scalars import resolve as scalar
from qatspec.spec import load
from tests.diagnostics.plugin import fake_registry

REGISTRY = fake_registry()
CASES = Path(__file__).parents[1] / "diagnostics"
GOOD = sorted(p.read_text() for p in CASES.glob("QS*/fixed.yaml"))
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_PIECES = st.sampled_from(
    ["${vars.a}", "*a", "&a ", "- ", ": ", "{", "}", "[", "]", "!replace ", "<<: ", "\t", "'", '"',
     "\n", "  ", "#", "null", "1e999", "${", "extends: spec.yaml\n", "|\n", "? ", "---\n", "%",
     "\u2028", "\ufeff", "\U0001f600"]
)  # fmt: skip


@st.composite
def mutated(draw):
    text = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 12))
        text = text[:at] + draw(_PIECES) + text[at + cut :]
    return text


def ends_well(path):
    try:
        spec = load(path, registry=REGISTRY)
        resolve(spec, registry=REGISTRY)
    except DiagnosticError as error:
        assert error.diagnostics
        for name in FORMATS:
            render(error.diagnostics, error.texts, name)
        for found in error.diagnostics:
            assert found.span is not None, found


@SETTINGS
@given(text=mutated())
def test_mutated_specs(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    ends_well(path)


@SETTINGS
@given(data=st.binary(max_size=300))
def test_random_bytes(tmp_path, data):
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    ends_well(path)


@SETTINGS
@given(override=st.text(max_size=40))
def test_random_overrides(tmp_path, override):
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD[0])
    try:
        load(path, [override], registry=REGISTRY)
    except DiagnosticError as error:
        render(error.diagnostics, error.texts)


_PLAIN = st.one_of(
    st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False),
    st.text("abcxyz0123456789 _", max_size=8),
)  # fmt: skip
_DATA = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=6).filter(lambda k: k not in ("extends", "vars")),
    st.recursive(
        _PLAIN,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    max_size=4,
)


@SETTINGS
@given(data=_DATA)
def test_places_reslice_and_data_round_trips(tmp_path, data):
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(data, indent=1))  # YAML 1.2 holds JSON
    document = load_document(path)
    assert document.data == data
    lines = split_lines(document.texts[str(path)])
    for pointer, (_, span) in document.spans.items():
        if span.line != span.end_line or not pointer:
            continue
        text = lines[span.line - 1][span.col - 1 : span.end_col - 1]
        value = data
        for key in pointer.split("/")[1:]:
            value = value[int(key)] if isinstance(value, list) else value[key]
        if isinstance(value, dict | list) or text.startswith('"'):
            assert json.loads(text) == value
        else:
            assert scalar(text) == value


@SETTINGS
@given(text=st.sampled_from(GOOD))
def test_resolving_is_repeatable(tmp_path, text):
    for name in ("one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "spec.yaml").write_text(text)
    try:
        plans = [
            resolve(load(tmp_path / name / "spec.yaml", registry=REGISTRY), registry=REGISTRY)
            for name in ("one", "two")
        ]
    except DiagnosticError:
        return
    assert plans[0].digest == plans[1].digest
    assert [s.digest for s in plans[0].steps] == [s.digest for s in plans[1].steps]

"""What opening a data set raises has a place in the spec: a data set does not know its role."""

import pytest

from qatspec.cli.options import context as surroundings
from qatspec.diag import DiagnosticError

OPEN = 'open=lambda params, cache_dir, base_dir: Corners(params["count"])'


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ("None", "/data/val"),
        ("'params/count'", "/data/val/params/count"),
        ("'/model/input'", "/model/input"),
    ],
)
def test_the_role_is_named(project, at: str, place: str) -> None:
    plugin = project.folder / "toy_plugin.py"
    text = plugin.read_text()
    assert OPEN in text
    opens = f"open=lambda params, cache_dir, base_dir: refuse({at})"
    refuse = (
        "def refuse(at):\n"
        "    from qatspec.api import codes\n"
        "    raise codes.QS911.error('nothing to open', at=at)\n"
    )
    plugin.write_text(text.replace(OPEN, opens) + f"\n\n{refuse}")
    context = surroundings(project.load(), project.workdir, device="cpu")
    with pytest.raises(DiagnosticError) as caught:
        context.dataset("val")
    (problem,) = caught.value.diagnostics
    assert problem.at == place and problem.message == "nothing to open"

"""Pages from templates: style, scripts and the specifications of charts are part of the file, so
that it can be sent to a colleague."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.resources
import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from qatspec.diag.codes import QS921
from qatspec.files import cache_folder, write_file

Chart = dict[str, Any]
Rows = list[dict[str, Any]]

#: told apart by people with any colour vision (Okabe & Ito 2008)
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C00"]


#: A sha256 in full, with the part of it that pages show.
_SHA256 = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


class Charts:
    """The charts of a page by their ids."""

    def __init__(self) -> None:
        self.specs: dict[str, Chart] = {}

    def add(self, specs: Sequence[Chart]) -> list[dict[str, str]]:
        """Returns id and title of each."""
        added = []
        for spec in specs:
            name = f"chart-{len(self.specs)}"
            self.specs[name] = {"width": "container", **spec}
            added.append({"id": name, "title": self.specs[name].pop("title")})
        return added


def demand_packages(*names: str) -> None:
    """Raise DiagnosticError QS921, before anything is measured, where a package that a page or a
    picture is made with is not installed. names: as they are imported."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise QS921.error(
                f"the page is made with {name}, which is not installed",
                help="pip install 'qatspec[report]'",
            )


def render_template(
    package: str, name: str, drawn: Charts, *, needs_charts: bool = True, **values: Any
) -> str:
    """The text of a page with its charts, style and scripts.

    package, name  of the template. values: what it shows.
    needs_charts   False: without vl-convert the page says how to get its charts.

    Raises DiagnosticError QS921 without jinja2 or vl-convert.
    """
    try:
        import jinja2

        library = _library(needs_charts)
    except ModuleNotFoundError as error:
        raise QS921.error(
            f"the page is made with {error.name}, which is not installed",
            help="pip install 'qatspec[report]'",
        ) from error
    folder, shared = importlib.resources.files(package), importlib.resources.files("qatspec.page")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda file: (folder / file).read_text("utf-8")),
    )
    environment.filters["figure"] = _figure
    environment.filters["setting"] = _setting
    page: str = environment.get_template(name).render(
        charts=drawn.specs,
        configuration=_configuration(),
        style=(shared / "page.css").read_text("utf-8"),
        script=(shared / "page.js").read_text("utf-8"),
        library=library,
        **values,
    )
    return page


@cache
def _library(needed: bool) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, "" without vl-convert where they are not
    `needed`. They take seconds to put together and are kept for the next command."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        if needed:
            raise
        return ""
    version = importlib.metadata.version("vl-convert-python")
    folder = cache_folder()
    kept = folder / f"vega-{version}.js" if folder else None
    if kept is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return kept.read_text("utf-8")
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    script = script.replace("</script", "<\\/script")
    if kept is not None:
        with contextlib.suppress(OSError):  # it is put together again next time
            write_file(kept, script.encode())
    return script


def _configuration() -> dict[str, Any]:
    """The look of all charts: the page's text colour, in light, dark and on paper."""
    axis = {"labelColor": "currentColor", "titleColor": "currentColor", "gridColor": "#8883",
            "domainColor": "#8888", "tickColor": "#8888", "titleFontWeight": "normal"}  # fmt: skip
    legend = {"labelColor": "currentColor", "titleColor": "currentColor", "orient": "bottom",
              "columns": 2, "labelLimit": 260, "symbolLimit": 30}  # fmt: skip
    return {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": "#8884"},
        "axis": axis,
        "legend": legend,
        "title": {"color": "currentColor", "anchor": "start", "fontSize": 13, "limit": 0},
        "range": {"category": _COLOURS},
    }


def _figure(value: Any, digits: int = 4) -> str:
    """A number for people; "" for None."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _setting(value: Any) -> str:
    """A value of a spec, or of what its results depend on, as HTML: the begin of each sha256, which
    is shown in full where the pointer rests on it; "" for None."""
    from markupsafe import Markup, escape

    text = str(escape("" if value is None else value))
    return Markup(_SHA256.sub(r'<span title="\g<0>">\g<1>…</span>', text))

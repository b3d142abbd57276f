"""Self-contained HTML pages whose charts Vega-Lite draws: of runs, and of compiled files."""

from qatspec.page.template import (
    Chart as Chart,
    Charts as Charts,
    Rows as Rows,
    demand_packages as demand_packages,
    render_template as render_template,
)

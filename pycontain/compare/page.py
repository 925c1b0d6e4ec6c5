"""The comparison as one self-contained HTML file: tables, and charts as inline SVG."""

from __future__ import annotations

import html
import io
import os

from ..errors import HostError
from .comparison import QUANTITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .comparison import Column, Comparison

_CHARTS = (
    # title, quantities of one unit
    ("Time to first output and to exit", ("first output", "exit")),
    ("A CPU-bound loop", ("CPU-bound loop",)),
    ("One system call", ("system call",)),
    ("Peak memory, program and monitor", ("memory",)),
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid #ddd; }
td.figure { text-align: right; font-variant-numeric: tabular-nums; }
small { color: #666; } svg { max-width: 100%; height: auto; }
"""


def page(comparison: Comparison) -> str:
    """The text of the file. Raises HostError without matplotlib."""
    title = "One program in four environments"
    program = html.escape(" ".join(comparison.program))
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<p><code>{program}</code>: medians of {comparison.runs} interleaved runs,",
        "± half the range from minimum to maximum.",
        f"Behind <code>/dev/kvm</code>: {html.escape(comparison.engine)}.</p>",
        "<h2>What it costs</h2>", _figures(comparison),
        "<h2>What the program sees</h2>", _sights(comparison),
        *(_chart(chart, quantities, comparison) for chart, quantities in _CHARTS),
        "</body></html>",
    ]  # fmt: skip
    return "\n".join(parts)


def write(comparison: Comparison, path: str) -> None:
    """Write the page to this path atomically."""
    text, temporary = page(comparison), f"{path}.{os.getpid()}"
    with open(temporary, "x", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _table(columns: tuple[Column, ...], rows: list[str]) -> str:
    heads = "".join(f"<th>{html.escape(column.name)}</th>" for column in columns)
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _figures(comparison: Comparison) -> str:
    rows = []
    for name, unit in QUANTITIES.items():
        cells = "".join(_cell(column, name) for column in comparison.columns)
        rows.append(f"<tr><th>{name} <small>{unit}</small></th>{cells}</tr>")
    return _table(comparison.columns, rows)


def _cell(column: Column, name: str) -> str:
    figure = column.figures.get(name)
    if figure is None:
        return f"<td><small>{html.escape(column.missing)}</small></td>"
    if not figure.median:
        return '<td class="figure">–</td>'
    shown = f"{figure.median:.2f} <small>± {figure.spread / 2:.0%}</small>"
    return f'<td class="figure">{shown}</td>'


def _sights(comparison: Comparison) -> str:
    present = tuple(column for column in comparison.columns if not column.missing)
    rows = []
    for question in present[0].sees:
        cells = "".join(f"<td>{html.escape(column.sees[question])}</td>" for column in present)
        rows.append(f"<tr><th>{question}</th>{cells}</tr>")
    return _table(present, rows)


def _chart(title: str, quantities: tuple[str, ...], comparison: Comparison) -> str:
    """Bars on a logarithmic scale, with the spread as whiskers."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise HostError(
            "is not installed", at="matplotlib", remedy="pip install matplotlib"
        ) from None
    present = [column for column in comparison.columns if not column.missing]
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(quantities)
    for number, quantity in enumerate(quantities):
        values = [column.figures[quantity] for column in present]
        places = [place + number * width for place in range(len(present))]
        heights = [value.median for value in values]
        whiskers = [value.median * value.spread / 2 for value in values]
        bars = axes.barh(places, heights, height=width * 0.9, xerr=whiskers, label=quantity)
        axes.bar_label(bars, fmt="{:,.4g}", padding=6)
    axes.set_yticks(
        [place + 0.4 - width / 2 for place in range(len(present))],
        [column.name for column in present],
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(QUANTITIES[quantities[0]])
    axes.spines[["top", "right"]].set_visible(False)
    if len(quantities) > 1:
        axes.legend(frameon=False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    svg = drawn.getvalue()
    return f"<h2>{title}</h2>\n{svg[svg.index('<svg') :]}"

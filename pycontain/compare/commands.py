"""The table that `pycontain compare` shows."""

from __future__ import annotations

from .comparison import QUANTITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .comparison import Comparison


def rows(comparison: Comparison) -> list[list[str]]:
    """The table: a heading, then one row for each quantity and for each thing the program sees."""
    table = [["", *(column.name for column in comparison.columns)]]
    for name, unit in QUANTITIES.items():
        cells = []
        for column in comparison.columns:
            figure = column.figures.get(name)
            shown = f"{figure.median:.2f} ±{figure.spread / 2:.0%}" if figure else column.missing
            cells.append(shown if figure is None or figure.median else "-")
        table.append([f"{name}, {unit}", *cells])
    questions = next(column.sees for column in comparison.columns if not column.missing)
    sights = (
        [question, *(column.sees.get(question, "") for column in comparison.columns)]
        for question in questions
    )
    return [*table, *sights]

"""How reports are shown: facts in two columns, and tables; with lines and emphasis where there is a terminal."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

#: Characters of a line, at most: a table is never cut to a terminal's width, which wraps it where it must.
_WIDTH = 200


def show_facts(heading: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return a heading, and under it a line for each fact: its name and the fact."""
    facts = list(facts)
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join([heading, *(f"  {name:<{width}}  {text}" for name, text in facts)])


def show_table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], *, marked: int | None = None) -> str:
    """Return a table.

    Parameters
    ----------
    columns : sequence of (str, bool)
        The name of each, and whether it is aligned to the right.
    rows : iterable of sequence of str
    marked : int, optional
        The row to emphasise.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    table: Table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, show_edge=False, highlight=False)
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(*row, style="bold" if number == marked else None)
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=_WIDTH,
        highlight=False,
    )
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def show_spread(value: float, deviation: float) -> str:
    """Return a mean and a standard deviation with as many decimals as the latter has two digits in."""
    if not 0.0 < deviation < math.inf:
        return f"{value:.4g}"
    decimals = 1 - math.floor(math.log10(deviation))
    if abs(value) >= 1e6 or decimals > 5:
        return f"{value:.4g} ± {deviation:.2g}"
    decimals = max(decimals, 0)
    # Zero has no sign.
    return f"{round(value, decimals) + 0.0:,.{decimals}f} ± {deviation:,.{decimals}f}"

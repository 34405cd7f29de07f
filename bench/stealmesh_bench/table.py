"""Rows for human eyes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from stealmesh_bench.record import Row


def as_table(rows: Iterable[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("workload", "peer", "value (min … max)", "unit", "× PPE (min … max)", "runs"):
        number = column[0] in "v×r"
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    table.add_column("target")
    for row in rows:
        table.add_row(
            row.workload,
            row.peer,
            _spread(row.value, row.values),
            row.unit,
            "" if row.ratio_to_ppe is None else _spread(row.ratio_to_ppe, row.ratios),
            str(len(row.values)),
            judged(row),
        )
    return table


def _spread(value: float, values: Sequence[float]) -> str:
    return f"{short(value)} ({short(min(values))} … {short(max(values))})"


def short(value: float) -> str:
    """Three digits that matter: 0.0123, 45.6, 12,345, 4.31 M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.3g} M" if abs(value) < 1e9 else f"{value / 1e6:,.0f} M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def judged(row: Row) -> str:
    """The target in green or red; empty without one."""
    if row.target is None:
        return ""
    return f"[green]{row.target} ✓[/green]" if row.is_met else f"[red]{row.target} ✗[/red]"

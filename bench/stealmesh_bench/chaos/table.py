"""Reports for human eyes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from stealmesh_bench.chaos.report import ChaosReport, together

PAPER_COLUMNS = 150


def show(reports: list[ChaosReport], seconds: float) -> None:
    screen = Console()
    if not screen.is_terminal:
        screen.width = PAPER_COLUMNS
    screen.print(as_table(reports))
    failed = [report for report in reports if report.breaches]
    for report in failed:
        for breach in report.breaches:
            screen.print(f"{report.scenario}: {breach}", style="red", markup=False)
        for note in report.notes:
            screen.print(f"    {note}", markup=False, highlight=False)
        screen.print(f"    {report.replay}", markup=False, highlight=False, soft_wrap=True)
    for report in reports:
        for name, (begin, end) in report.rss_mib.items():
            screen.print(f"memory of {name}: {begin:.1f} → {end:.1f} MiB", markup=False)
    if len(reports) == 1 and not failed:
        screen.print(f"again: {reports[0].replay}", markup=False, highlight=False, soft_wrap=True)
    runs = "1 run" if len(reports) == 1 else f"{len(reports)} runs"
    screen.print(f"{runs} in {seconds:.0f} s, {len(failed) or 'none'} broke a promise")


COLUMNS = (
    ("killed", "killed"),
    ("items", "accepted"),
    ("lost", "lost"),
    ("dupli-\ncated", "duplicated"),
    ("run\ntwice", "run_twice"),
    ("detected\np50 s", "detection_p50_s"),
    ("detected\np99 s", "detection_p99_s"),
    ("flows\nagain s", "flowing_again_s"),
    ("90 % back\ns", "recovered_90_s"),
    ("97 % back\ns", "recovered_97_s"),
    ("agreed\ns", "agreed_s"),
    ("control\nmsg/node/s", "control_messages_per_leaf_s"),
)


def as_table(reports: list[ChaosReport]) -> Table:
    """A line a run; below several, the sums of what is counted and the worst of what takes time."""
    table = Table(title="chaos", title_justify="left", show_footer=len(reports) > 1)
    whole = together(reports, "") if reports else {}
    table.add_column("scenario", footer="sum, worst", no_wrap=True)
    for head in ("seed", "nodes"):
        table.add_column(head, justify="right")
    for head, name in COLUMNS:
        table.add_column(head, footer=_short(whole.get(name)), justify="right")
    table.add_column("verdict", footer=_verdict(any(each.breaches for each in reports)))
    for each in reports:
        table.add_row(
            each.scenario,
            str(each.seed),
            f"{each.nodes}{' sim' if each.sim else ''}",
            *(_short(getattr(each, name)) for _, name in COLUMNS),
            _verdict(bool(each.breaches)),
        )
    return table


def _verdict(breached: bool) -> str:
    return "[red]BREACH[/red]" if breached else "[green]pass[/green]"


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,d}" if isinstance(value, int) else f"{value:,.2f}"

"""Reports for human eyes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from stealmesh_bench.chaos.report import Report

PAPER_COLUMNS = 140


def show(reports: list[Report], seconds: float) -> None:
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


def as_table(reports: list[Report]) -> Table:
    table = Table(title="chaos", title_justify="left")
    table.add_column("scenario", no_wrap=True)
    for column in ("seed", "nodes", "killed", "items", "lost", "dupli-\ncated", "run\ntwice",
                   "detected\np50 / p99 s", "90 % back\ns", "97 % back\ns", "agreed\ns",
                   "control\nmsg/node/s"):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for each in reports:
        detected = f"{_short(each.detection_p50_s)} / {_short(each.detection_p99_s)}"
        table.add_row(
            each.scenario,
            str(each.seed),
            f"{each.nodes}{' sim' if each.sim else ''}",
            str(each.killed),
            _short(each.accepted),
            _short(each.lost),
            _short(each.duplicated),
            _short(each.run_twice),
            detected if each.detection_p50_s is not None else "–",
            _short(each.recovered_90_s),
            _short(each.recovered_97_s),
            _short(each.agreed_s),
            _short(each.control_messages_per_leaf_s),
            "[red]BREACH[/red]" if each.breaches else "[green]pass[/green]",
        )
    return table


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,d}" if isinstance(value, int) else f"{value:,.2f}"

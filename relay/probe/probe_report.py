"""A probe's report as a table for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.probe.quality import Direction, Limits, Report


def show(console: Console, report: Report, limits: Limits) -> None:
    """Print the figures, and what is worse than it may be. All of it fits into 80 columns."""
    if report.directions:
        console.print(_calling(report, limits))
        console.print(_table(report, limits))
    findings = report.findings(limits)
    for text in findings:
        console.print(f"[red]✗[/red] {escape(text)}")
    if not findings:
        console.print("[green]✓[/green] everything is within its limit")


def _calling(report: Report, limits: Limits) -> str:
    rang = "no ring" if report.post_dial_ms is None else f"rang after {report.post_dial_ms:.0f} ms"
    setup = report.setup_ms or 0.0
    return f"{escape(report.called)}: {rang}, audio after " + _judged(
        f"{setup:.0f} ms", setup <= limits.setup_ms
    )


def _table(report: Report, limits: Limits) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("codec", "packets", "lost", "jitter", "one way", "return", "MOS"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in report.directions:
        table.add_row(each.name, *_row(each, limits))
    return table


def _row(each: Direction, limits: Limits) -> list[str]:
    delay = "-" if each.delay_ms is None else f"{each.delay_ms:.1f} ms"
    return [
        each.codec,
        str(each.packets),
        _judged(f"{each.loss_percent:.2f} %", each.loss_percent <= limits.loss_percent),
        _judged(f"{each.jitter_ms:.1f} ms", each.jitter_ms <= limits.jitter_ms),
        _judged(delay, each.delay_ms is None or each.delay_ms <= limits.delay_ms),
        "-" if each.round_trip_ms is None else f"{each.round_trip_ms:.1f} ms",
        _judged(f"{each.mos:.2f}", each.mos >= limits.mos),
    ]


def _judged(text: str, good: bool) -> str:
    return f"[green]{text}[/]" if good else f"[bold red]{text}[/]"

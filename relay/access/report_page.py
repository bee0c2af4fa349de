"""The page of a transparency report: one HTML file that works offline, prints, and can be heard.

Plots are inline SVG with a text of their own, and each has its figures in a table beside it. The
page fetches nothing and runs nothing (its own policy forbids it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root{{--ink:#1b2430;--soft:#5a6675;--line:#d5dbe3;--paper:#fff;--a:#1f6feb;--b:#b35900;--c:#6b7a8c}}
@media (prefers-color-scheme:dark){{:root{{--ink:#e8edf3;--soft:#a3afbd;--line:#39434f;
--paper:#12171d;--a:#6cabff;--b:#ffa94d;--c:#93a1b1}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:62rem;padding:2rem 1.25rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,sans-serif}}
h1{{font-size:1.8rem;line-height:1.2;margin:0}}h2{{font-size:1.2rem;margin:2.5rem 0 .5rem}}
p{{max-width:44rem}}.soft,caption{{color:var(--soft)}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;
margin:1.5rem 0;padding:0;list-style:none}}
.tiles li{{border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem}}
.tiles b{{display:block;font-size:1.6rem;font-variant-numeric:tabular-nums}}
.pair{{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:1rem 2rem;
align-items:start}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}}
caption{{text-align:left;font-size:.9rem;padding-bottom:.25rem}}
th,td{{padding:.35rem .5rem;border-bottom:1px solid var(--line);text-align:right;
font-weight:400}}td.text{{overflow-wrap:anywhere}}
th:first-child,td.text{{text-align:left}}thead th{{font-weight:600;white-space:nowrap}}
svg{{width:100%;height:auto}}svg text{{fill:var(--ink);font:12px system-ui,sans-serif}}
.s0{{fill:var(--a)}}.s1{{fill:var(--b)}}.s2{{fill:var(--c)}}.axis{{stroke:var(--line)}}
.warning{{border-left:.3rem solid var(--b);padding:.25rem 1rem}}
@media print{{body{{max-width:none;padding:0}}section{{break-inside:avoid}}}}
</style></head><body><main>
"""
WIDTH, HEIGHT, TOP, BOTTOM = 420, 200, 34, 24


class Series(NamedTuple):
    """One row of figures, by month."""

    label: str
    by_month: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_month.values())


def page(report: Mapping[str, Any]) -> str:
    """The HTML of a report's document, and of nothing else."""
    region, quarter = report["region"], str(report["quarter"])
    title = f"Transparency report {quarter} of region {region['id']}"
    return "".join(
        (
            HEAD.format(title=escape(title)),
            f"<h1>{escape(title)}</h1>",
            _whose(report),
            _tiles(report),
            *_sections_of_calls(report),
            *_sections_of_people(report),
            _places(report),
            "<p class='soft'>Counts only: no customer, number or address is in this report. "
            "The same figures are in the JSON file beside it.</p></main></body></html>\n",
        )
    )


def _whose(report: Mapping[str, Any]) -> str:
    region = report["region"]
    entity = f"{escape(region['entity'])}. " if region["entity"] else ""
    text = (
        f"<p class='soft'>{entity}Jurisdiction {escape(region['jurisdiction'])}. "
        f"Made {escape(report['made'])}. Policy {escape(region['policy']) or 'unknown'}, "
        f"manifest {escape(region['manifest'])}.</p>"
    )
    if not region["enforced"]:
        text += (
            "<p class='warning'>The boundary was not enforced when this report was made: what "
            "would have been refused was only counted.</p>"
        )
    return text


def _tiles(report: Mapping[str, Any]) -> str:
    figures = (
        ("calls", report["calls"]["all"]),
        ("recordings", report["recordings"]["made"]),
        ("refused at the boundary", report["boundary"]["refused"]),
        ("grants approved", report["grants"]["approved"]),
        ("erasures", report["erasures"]["requested"]),
        ("exports", report["exports"]["made"]),
    )
    items = (f"<li><b>{sum(counts.values()):,}</b>{label}</li>" for label, counts in figures)
    return f"<ul class='tiles'>{''.join(items)}</ul>"


def _sections_of_calls(report: Mapping[str, Any]) -> Iterable[str]:
    calls, recordings, boundary = report["calls"], report["recordings"], report["boundary"]
    yield _section(
        report,
        "Calls",
        f"{sum(calls['minutes'].values()):,} begun minutes were spoken.",
        (Series("all", calls["all"]), Series("answered", calls["answered"])),
    )
    yield _section(
        report,
        "Recordings",
        f"{recordings['hours']:,} hours, {recordings['octets']:,} octets, all encrypted, under "
        "keys of the region or of its customers. What was erased since is counted in the month it "
        "was made in.",
        (
            Series("made", recordings["made"]),
            Series("incomplete", recordings["incomplete"]),
            Series("erased since", recordings["erased_since"]),
        ),
    )
    yield _section(
        report,
        "The boundary",
        f"Of the remote addresses of calls {boundary['addresses_inside']:,} lay inside the region "
        f"and {boundary['addresses_outside']:,} outside; {boundary['outside_used']:,} of those "
        "outside were used.",
        (
            Series("refused", boundary["refused"]),
            Series("would be refused (dry run)", boundary["would_refuse"]),
        ),
    )


def _sections_of_people(report: Mapping[str, Any]) -> Iterable[str]:
    grants, erasures, exports = report["grants"], report["erasures"], report["exports"]
    yield _section(
        report,
        "Access from elsewhere",
        "Who is outside reads personal data by a grant only, which somebody inside approves.",
        (
            Series("requested", grants["requested"]),
            Series("approved", grants["approved"]),
            Series("used (reads)", grants["used"]),
        ),
        (Series("revoked", grants["revoked"]),),
    )
    yield _section(
        report,
        "Erasure and retention",
        "",
        (
            Series("erasures", erasures["requested"]),
            Series("calls redacted", erasures["calls_redacted"]),
            Series("calls expired", erasures["expired"]),
        ),
        (
            Series("recordings removed", erasures["recordings_removed"]),
            Series("legal holds set", erasures["holds_set"]),
            Series("legal holds released", erasures["holds_released"]),
        ),
    )
    yield _section(
        report,
        "Exports",
        "Only pseudonymised rows leave the region, under keys that stay in it.",
        (Series("exports", exports["made"]),),
        (Series("rows of calls", exports["rows"]),),
    )


def _section(
    report: Mapping[str, Any],
    heading: str,
    text: str,
    plotted: Sequence[Series],
    listed: Sequence[Series] = (),
) -> str:
    months = report["months"]
    said = f"<p>{text}</p>" if text else ""
    return (
        f"<section><h2>{heading}</h2>{said}<div class='pair'>"
        f"{_plot(heading, months, plotted)}{_table(heading, months, [*plotted, *listed])}"
        "</div></section>"
    )


def _table(heading: str, months: Sequence[str], rows: Sequence[Series]) -> str:
    head = "".join(f"<th scope='col'>{escape(month)}</th>" for month in months)
    body = "".join(
        f"<tr><th scope='row'>{row.label}</th>"
        + "".join(f"<td>{row.by_month[month]:,}</td>" for month in months)
        + f"<td>{row.total:,}</td></tr>"
        for row in rows
    )
    return (
        f"<table><caption>{heading} by month</caption><thead><tr><th scope='col'></th>{head}"
        f"<th scope='col'>all</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _plot(heading: str, months: Sequence[str], rows: Sequence[Series]) -> str:
    """Bars side by side, one group a month, each with its figure on it."""
    most = max((row.by_month[month] for row in rows for month in months), default=0) or 1
    group = WIDTH / len(months)
    bar = min(44.0, (group - 24) / len(rows))
    floor, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP - 16
    said = "; ".join(
        f"{row.label}: " + ", ".join(f"{month} {row.by_month[month]:,}" for month in months)
        for row in rows
    )
    parts = [
        f"<svg role='img' viewBox='0 0 {WIDTH} {HEIGHT}' aria-label='{heading}: {escape(said)}'>",
        f"<title>{heading}</title>",
    ]
    at = 0.0
    for number, row in enumerate(rows):
        parts.append(
            f"<rect class='s{number}' x='{at:.0f}' y='2' width='10' height='10'/>"
            f"<text x='{at + 15:.0f}' y='12'>{row.label}</text>"
        )
        at += 32 + 6.5 * len(row.label)
    for column, month in enumerate(months):
        left = column * group + (group - bar * len(rows)) / 2
        for number, row in enumerate(rows):
            value = row.by_month[month]
            tall, x = room * value / most, left + number * bar
            parts.append(
                f"<rect class='s{number}' x='{x + 2:.1f}' y='{floor - tall:.1f}' "
                f"width='{bar - 4:.1f}' height='{tall:.1f}'/>"
                f"<text x='{x + bar / 2:.1f}' y='{floor - tall - 4:.1f}' "
                f"text-anchor='middle'>{_short(value)}</text>"
            )
        middle = column * group + group / 2
        parts.append(f"<text x='{middle:.0f}' y='{HEIGHT - 7}' text-anchor='middle'>{month}</text>")
    parts.append(f"<line class='axis' x1='0' x2='{WIDTH}' y1='{floor}' y2='{floor}'/></svg>")
    return "".join(parts)


def _short(value: int) -> str:
    """At most four characters: 999, 12k, 3.4M."""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= least:
            scaled = value / least
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(value)


def _places(report: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(place['what'])}</th>"
        f"<td class='text'>{escape(place['where'])}</td>"
        f"<td class='text'>{escape(place['lies'])}</td></tr>"
        for place in report["places"]
    )
    keys = "".join(
        f"<tr><th scope='row'>{escape(key['id'])}</th><td>{escape(key['state'])}</td></tr>"
        for key in report["keys"]
    )
    return (
        "<section><h2>Where everything is</h2><div class='pair'><table>"
        f"<caption>What is kept, and where</caption><tbody>{rows}</tbody></table><table>"
        f"<caption>The region's keys (ids)</caption><tbody>{keys}</tbody></table></div></section>"
    )

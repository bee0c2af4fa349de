"""`relay calls`: what is kept of calls; in clear only where it is asked for, and audited."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from relay.access.ports import Query
from relay.access.reading import Page
from relay.access.roles import Staff
from relay.archive import Archive
from relay.commands.as_staff import TokenOption, acting, moment
from relay.commands.shared import (
    ConfigOption,
    JsonOption,
    cell,
    failing,
    give,
    ids,
    print_json,
    stderr,
)
from relay.residency.record import ERASED

app = typer.Typer(
    name="calls",
    help="What is kept of calls. Numbers are pseudonyms unless you ask for them.",
    epilog="Examples:  relay calls list --since -1d  ·  relay calls list --clear --number "
    "+35315550111  ·  relay calls show 9f3c01aa --clear --token maeve.jwt\n\n"
    "Exit codes:  0 done  ·  1 refused or failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

ClearOption = Annotated[
    bool, typer.Option("--clear", help="Numbers in clear: each is an entry of the audit log.")
]


@app.command("list")
def list_calls(
    config: ConfigOption = None,
    token: TokenOption = None,
    clear: ClearOption = False,
    number: Annotated[
        str | None, typer.Option("--number", metavar="+NUMBER", help="From or to this number.")
    ] = None,
    peer: Annotated[str | None, typer.Option("--peer", help="Of this trunk or account.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="-2h, -3d or a time.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The same.")] = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Recorded ones only.")] = False,
    after: Annotated[str, typer.Option("--after", metavar="CALL", help="The next page.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="Of a page.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """A page of calls, the latest first."""
    with failing():
        begin, end = moment(since, "--since"), moment(until, "--until")
    query = Query(number, peer, begin, end, recorded, None, limit)

    async def step(archive: Archive, staff: Staff, now: datetime) -> Page:
        return await archive.reading.calls(staff, query, now, after, clear)

    page = acting(config, token, step)
    if as_json:
        print_json(calls=page.calls, next=page.next)
        return
    rest = ("started", "from", "to", "status", "legs", "recorded")
    table = Table(ids("call"), *(Column(heading, overflow="fold") for heading in rest))
    for each in page.calls:
        table.add_row(*(cell(text) for text in _row(each)))
    Console(highlight=False).print(table)
    if page.next is not None:
        stderr().print(f"More: --after {escape(page.next)}")


@app.command()
def show(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Its id.")],
    config: ConfigOption = None,
    token: TokenOption = None,
    clear: ClearOption = False,
) -> None:
    """All that is known of a call, as JSON."""

    async def step(archive: Archive, staff: Staff, now: datetime) -> dict[str, Any]:
        return await archive.reading.call(staff, call, now, in_clear=clear)

    give(acting(config, token, step))


def _row(call: dict[str, Any]) -> tuple[str, ...]:
    legs = " → ".join(leg["peer"] for leg in call["legs"])
    audio = call.get("recording")  # in clear; `recorded` beside pseudonyms
    recorded = "yes" if call.get("recorded") or (audio and audio["problem"] != ERASED) else ""
    started = call.get("started") or call["hour"]
    status = "" if call["status"] is None else str(call["status"])
    return call["id"], started[:16], call["caller"], call["called"], status, legs, recorded

"""`relay grants`: the right of staff outside to read, asked for, approved, and ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from relay.access.grant import Grant, Scope
from relay.access.roles import Staff
from relay.access.view import grant as shown
from relay.archive import Archive
from relay.commands.as_staff import TokenOption, acting, moment
from relay.commands.shared import ConfigOption, JsonOption, cell, failing, ids, print_json

app = typer.Typer(
    name="grants",
    help="What staff of another jurisdiction may read, for how long, and who approved it.",
    epilog="Examples:  relay grants request --token jane.jwt --reason 'ticket 7' --peer acme "
    "--until 2h  ·  relay grants approve 5f0c3a --token aoife.jwt  ·  relay grants revoke 5f0c3a"
    "\n\nExit codes:  0 done  ·  1 refused or failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="As `relay grants list` has it.")]


@app.command("list")
def list_grants(
    config: ConfigOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """All of them, the latest first; with a token of staff outside, their own."""

    async def step(archive: Archive, staff: Staff, now: datetime) -> list[Grant]:
        return await archive.granting.all(staff, now)

    found = acting(config, token, step)
    if as_json:
        print_json(grants=[shown(each) for each in found])
        return
    table = Table(ids("grant"), "state", "who", "reason", "for", "until", "approved by")
    for each in found:
        who = f"{each.requester} ({each.jurisdiction})"
        by = ", ".join(approval.by for approval in each.approvals) or f"needs {each.needed}"
        until = f"{each.until:%Y-%m-%d %H:%M} UTC"
        texts = (each.id, each.state.value, who, each.reason, _words(each.scope), until, by)
        table.add_row(*(cell(text) for text in texts))
    Console(highlight=False).print(table)


@app.command()
def request(
    reason: Annotated[str, typer.Option("--reason", help="Why; the approvers read it.")],
    until: Annotated[str, typer.Option("--until", help="When it ends: 2h, 3d or a time.")],
    record: Annotated[
        list[str] | None, typer.Option("--record", help="A call's or recording's id; repeatable.")
    ] = None,
    peer: Annotated[str, typer.Option("--peer", help="Calls of this trunk or account.")] = "",
    since: Annotated[str | None, typer.Option("--since", help="Calls from then on.")] = None,
    before: Annotated[str | None, typer.Option("--before", help="Calls before then.")] = None,
    config: ConfigOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for a grant, with the token of who wants to read."""
    with failing():
        end = moment(until, "--until")
        scope = Scope(
            frozenset(record or ()), peer, moment(since, "--since"), moment(before, "--before")
        )
    assert end is not None

    async def step(archive: Archive, staff: Staff, now: datetime) -> Grant:
        return await archive.granting.request(staff, reason, scope, end, now)

    _told(acting(config, token, step), as_json)


@app.command()
def approve(
    grant: GrantId,
    config: ConfigOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """One approval, with the token of an approver inside who did not ask for it."""
    made = acting(
        config, token, lambda archive, staff, now: archive.granting.approve(staff, grant, now)
    )
    _told(made, as_json)


@app.command()
def revoke(
    grant: GrantId,
    config: ConfigOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """End it at once, also what is being read by it; who runs the node may."""
    made = acting(
        config, token, lambda archive, staff, now: archive.granting.revoke(staff, grant, now)
    )
    _told(made, as_json)


def _told(grant: Grant, as_json: bool) -> None:
    fields: dict[str, Any] = shown(grant)
    if as_json:
        print_json(**fields)
    else:
        typer.echo(f"{grant.id} {grant.state.value} ({len(grant.approvals)} of {grant.needed})")


def _words(scope: Scope) -> str:
    parts = [f"{len(scope.records)} records"] if scope.records else []
    parts += [f"of {scope.peer}"] if scope.peer else []
    parts += [f"since {scope.since:%Y-%m-%d %H:%M}"] if scope.since is not None else []
    parts += [f"before {scope.until:%Y-%m-%d %H:%M}"] if scope.until is not None else []
    return " ".join(parts)

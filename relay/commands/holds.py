"""`relay hold`: what must be kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from relay.access.erasure import Scope
from relay.archive import Archive, host_actor
from relay.commands.shared import ConfigOption, JsonOption, print_json, stderr, with_archive
from relay.commands.subject import (
    EXIT_CODES,
    AccountOption,
    NumberOption,
    checked_number,
    mistake,
    named_well,
    new_id,
)

app = typer.Typer(
    name="hold",
    help="Legal holds: what must be kept.",
    epilog="Examples:  relay hold set --account acme --reason 'case 4711'  ·  relay hold list  ·  "
    "relay hold release hold-20261126-1f0c22d0" + EXIT_CODES,
    no_args_is_help=True,
)


@app.command(
    "set",
    epilog="Examples:  relay hold set --account acme --reason 'case 4711'  ·  "
    "relay hold set --number +35315550111 --reason 'case 4711'",
)
def set_hold(
    reason: Annotated[str, typer.Option("--reason", help="Why; it names nobody.")],
    number: NumberOption = None,
    identity: Annotated[str | None, typer.Option("--identity")] = None,
    account: AccountOption = None,
    call: Annotated[str | None, typer.Option("--call", help="The id of a call.")] = None,
    config: ConfigOption = None,
) -> None:
    """Keep a number's, an account's or a trunk's calls, or one call: they are neither erased nor
    do they expire, until the hold is released.

    Exit code 0: it is in force; 1: it failed; 2: a mistake.
    """
    given: list[tuple[Scope, str]] = [("account", account)] if account else []
    given += [("call", call)] if call else []
    given += [("person", checked_number(number))] if number else []
    given += [("person", identity)] if identity else []
    if len(given) != 1:
        mistake("one of --number, --identity, --account and --call says what is held")
    named_well("--reason", reason)
    ((scope, subject),) = given

    async def steps(archive: Archive) -> int:
        now, actor = datetime.now(UTC), host_actor()
        if scope == "account" and subject not in [peer.name for peer in archive.config.peers]:
            stderr().print(f"note: no trunk or account is called {subject} now")
        hold = new_id("hold", now)
        await archive.audit.record("hold-set", actor, hold, scope=scope)
        await archive.holds.set(hold, scope, subject, reason, actor.name, now)
        typer.echo(hold)
        return 0

    with_archive(config, steps)


@app.command("release", epilog="Example:  relay hold release hold-20261126-1f0c")
def release(
    hold: Annotated[str, typer.Argument(help="Its id.")], config: ConfigOption = None
) -> None:
    """Release a hold, and erase what was to be erased meanwhile.

    Exit code 0: done; 1: there is none of this id in force, or it failed.
    """

    async def steps(archive: Archive) -> int:
        actor = host_actor()
        await archive.audit.record("hold-released", actor, hold)
        await archive.holds.release(hold, actor.name, datetime.now(UTC))
        await archive.erasing.finish()
        return 0

    with_archive(config, steps)


@app.command("list")
def list_holds(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The holds, released ones too. Whose they are is not shown.

    Exit code 0: done; 1: it failed.
    """

    async def steps(archive: Archive) -> int:
        for hold in await archive.holds.all():
            subject = "" if hold.scope == "person" else hold.subjects[0]
            until = f"released {hold.released:%Y-%m-%d}" if hold.released else "in force"
            if as_json:
                told = {**asdict(hold), "subjects": [subject] if subject else []}
                print_json(**json.loads(json.dumps(told, default=str)))
            else:
                typer.echo(
                    f"{hold.id}  {hold.scope} {subject}  since {hold.since:%Y-%m-%d}  "
                    f"{until}  {hold.reason}"
                )
        return 0

    with_archive(config, steps)

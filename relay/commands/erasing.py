"""`relay erase`, `relay erasure`, `relay hold`, `relay retention`: what is kept no longer, or must
be."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from relay.access.erasure import Person, Plan, Request, Scope, problem_of
from relay.archive import Archive, host_actor
from relay.commands.shared import (
    FAILED,
    MISTAKEN,
    ConfigOption,
    JsonOption,
    give,
    print_json,
    stderr,
    with_archive,
)
from relay.errors import KeyMissing
from relay.keys.pem import read_public
from relay.residency.audit import without_personal
from relay.residency.signing import parsed

EXIT_CODES = "\n\nExit codes:  0 done  ·  1 failed  ·  2 a mistake in the input"

hold_app = typer.Typer(
    name="hold",
    help="Legal holds: what must be kept.",
    epilog="Examples:  relay hold set --account acme --reason 'case 4711'  ·  relay hold list  ·  "
    "relay hold release hold-20261126-1f0c22d0" + EXIT_CODES,
    no_args_is_help=True,
)
erasure_app = typer.Typer(
    name="erasure",
    help="Certificates of erasure.",
    epilog="Example:  relay erasure show er-20261126-1f0c22d0" + EXIT_CODES,
    no_args_is_help=True,
)
retention_app = typer.Typer(
    name="retention",
    help="What is older than it is kept for.",
    epilog="Example:  relay retention run -c region.toml" + EXIT_CODES,
    no_args_is_help=True,
)

NumberOption = Annotated[
    str | None, typer.Option("--number", metavar="+NUMBER", help="A telephone number.")
]
IdentityOption = Annotated[
    str | None, typer.Option("--identity", help="A voice client's identity, with --account.")
]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The name of an account or a trunk.")
]
_NUMBER = re.compile(r"\+[1-9][0-9]{4,14}")


def erase(
    number: NumberOption = None,
    identity: IdentityOption = None,
    account: AccountOption = None,
    reference: Annotated[
        str, typer.Option("--reference", help="Your own name of the request, such as DSR-17.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="For the certificate.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Erase a data subject: the recordings, their keys, and what is personal in call records.

    The certificate (JSON, signed) goes to standard output or to --output. What comes
    later of a call that began before is erased as well.

    Exit code 0: all of it is erased; 1: not all yet (a legal hold, a store that does not
    answer), or it failed; 2: a mistake.
    """
    person = _person(number, identity, account)
    _named_well("--reference", reference)

    async def steps(archive: Archive) -> int:
        if dry_run:
            return _would(await archive.erasing.preview(person))
        request = _request(archive, "er", reference)
        done = await archive.erasing.person(person, request, host_actor())
        give(done.certificate, output)
        for call, hold in done.plan.held:
            stderr().print(f"call {call.id} is under the legal hold {hold.id}: it stays")
        if not done.certificate["complete"]:
            stderr().print(
                f"not complete: {_told(done.certificate)}; running nodes go on every minute, and "
                f"`relay erasure show {request.id}` says what is left"
            )
        return 0 if done.certificate["complete"] else FAILED

    with_archive(config, steps)


@erasure_app.command("show", epilog="Example:  relay erasure show er-20261126-1f0c")
def show(
    erasure: Annotated[str, typer.Argument(help="Its id.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE")] = None,
    config: ConfigOption = None,
) -> None:
    """Give the certificate of an erasure as it is now, signed anew.

    Exit code 0: done; 1: there is none of this id.
    """

    async def steps(archive: Archive) -> int:
        give(await archive.erasing.certificate(erasure), output)
        return 0

    with_archive(config, steps)


@erasure_app.command(
    "verify", epilog="Example:  relay erasure verify certificate.json --key region.pub.pem"
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate.")],
    key: Annotated[
        list[Path],
        typer.Option("--key", metavar="FILE", help="Of `relay keys public`; may be repeated."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Whether a certificate is what was signed, and what it says. Offline, without a configuration.

    Exit code 0: it is; 1: it is not; 2: a mistake. One that is not complete verifies, too.
    """
    try:
        keys = {name: each for path in key for name, each in read_public(path).items()}
        document = parsed(file.read_bytes())
    except (KeyMissing, OSError) as error:
        _mistake(str(error))
    except ValueError as mistake:
        _mistake(f"{file} cannot be read: {mistake}")
    if problem := problem_of(document, keys):
        if as_json:
            print_json(ok=False, problem=problem)
        else:
            stderr().print(f"[red]✗[/] {escape(f'{file}: {problem}')}")
        raise typer.Exit(FAILED)
    signer, complete = document["signature"]["key"], document["complete"]
    if as_json:
        print_json(ok=True, id=document["id"], signed_by=signer, complete=complete)
        return
    typer.echo(f"{document['id']} is signed by {signer}")
    typer.echo(f"{'complete' if complete else 'NOT COMPLETE'}: {_told(document)}")


def _told(certificate: Mapping[str, Any]) -> str:
    """What was done, and what is left to do."""
    recordings = certificate["recordings"]
    pending = [each for each in recordings if each["audio"] == "pending"]
    nodes = sorted({each["node"] for each in pending if each["node"]})
    counts = {
        "calls redacted": len(certificate["calls_redacted"]),
        "recordings removed": len(recordings) - len(pending),
        "recordings pending" + (f" (made on {', '.join(nodes)})" if nodes else ""): len(pending),
        "calls of which more is to come": len(certificate["calls_open"]),
        "calls under a legal hold": len(certificate["held"]),
        "recordings that other erasures have to remove": certificate["other_erasures_pending"],
    }
    some = [f"{what}: {count}" for what, count in counts.items() if count]
    return "; ".join(some) or "nothing was found"


@hold_app.command(
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
    given += [("person", _checked(number))] if number else []
    given += [("person", identity)] if identity else []
    if len(given) != 1:
        _mistake("one of --number, --identity, --account and --call says what is held")
    _named_well("--reason", reason)
    ((scope, subject),) = given

    async def steps(archive: Archive) -> int:
        now, actor = datetime.now(UTC), host_actor()
        if scope == "account" and subject not in [peer.name for peer in archive.config.peers]:
            stderr().print(f"note: no trunk or account is called {subject} now")
        hold = _new_id("hold", now)
        await archive.audit.record("hold-set", actor, hold, scope=scope)
        await archive.holds.set(hold, scope, subject, reason, actor.name, now)
        typer.echo(hold)
        return 0

    with_archive(config, steps)


@hold_app.command("release", epilog="Example:  relay hold release hold-20261126-1f0c")
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


@hold_app.command("list")
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


@retention_app.command("run")
def run_retention(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Erase now what is older than its trunk or account keeps it; a running node does it hourly.

    Exit code 0: done; 1: it failed.
    """

    async def steps(archive: Archive) -> int:
        request = _request(archive, "retention", "")
        counts = await archive.erasing.expire(archive.retention_days, request, host_actor())
        await archive.erasing.finish()
        if as_json:
            print_json(**asdict(counts))
        else:
            typer.echo(
                f"{counts.calls} calls and {counts.recordings} recordings erased, "
                f"{counts.held} under a legal hold"
            )
        return 0

    with_archive(config, steps)


def _person(number: str | None, identity: str | None, account: str | None) -> Person:
    if (number is None) == (identity is None) or (identity is None) != (account is None):
        _mistake("whose data: --number +…, or --identity … with --account …")
    return Person(_checked(number)) if number else Person(identity or "", account or "")


def _checked(number: str) -> str:
    if not _NUMBER.fullmatch(number):
        _mistake("--number is written in full, as +35315550111")
    return number


def _named_well(option: str, text: str) -> None:
    """What is kept in clear, and on certificates, names nobody."""
    if without_personal(text) != text or re.search(r"\d{7}", text):
        _mistake(f"{option} is kept in clear: leave numbers and addresses out")


def _mistake(text: str) -> NoReturn:
    stderr().print(text)
    raise typer.Exit(MISTAKEN)


def _request(archive: Archive, kind: str, reference: str) -> Request:
    region, now = archive.config.region, datetime.now(UTC)
    by = host_actor().name
    return Request(_new_id(kind, now), region.id, region.entity, now, by, reference)


def _new_id(kind: str, now: datetime) -> str:
    return f"{kind}-{now:%Y%m%d}-{secrets.token_hex(4)}"


def _would(plan: Plan) -> int:
    octets = sum(recording.octets for recording in plan.recordings)
    print_json(
        dry_run=True,
        calls=len(plan.erased),
        recordings=len(plan.recordings),
        octets=octets,
        held=[{"call": call.id, "hold": hold.id} for call, hold in plan.held],
    )
    return 0

"""`relay erase`, `relay erasure`, `relay retention`: what is kept no longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from relay.access.erasure import Person, Plan, Request, problem_of
from relay.archive import Archive, host_actor
from relay.commands.offline import KeysOption, document, mistaken, public_keys
from relay.commands.shared import (
    FAILED,
    ConfigOption,
    JsonOption,
    give,
    print_json,
    stderr,
    with_archive,
)
from relay.commands.subject import (
    EXIT_CODES,
    AccountOption,
    IdentityOption,
    NumberOption,
    checked_number,
    mistake,
    named_well,
    new_id,
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
    named_well("--reference", reference)

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
    key: KeysOption,
    as_json: JsonOption = False,
) -> None:
    """Whether a certificate is what was signed, and what it says. Offline, without a configuration.

    Exit code 0: it is; 1: it is not; 2: a mistake. One that is not complete verifies, too.
    """
    with mistaken():
        certificate = document(file)
        problem = problem_of(certificate, public_keys(key))
    if problem:
        if as_json:
            print_json(ok=False, problem=problem)
        else:
            stderr().print(f"[red]✗[/] {escape(f'{file}: {problem}')}")
        raise typer.Exit(FAILED)
    signer, complete = certificate["signature"]["key"], certificate["complete"]
    if as_json:
        print_json(ok=True, id=certificate["id"], signed_by=signer, complete=complete)
        return
    typer.echo(f"{certificate['id']} is signed by {signer}")
    typer.echo(f"{'complete' if complete else 'NOT COMPLETE'}: {_told(certificate)}")


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
        mistake("whose data: --number +…, or --identity … with --account …")
    return Person(checked_number(number)) if number else Person(identity or "", account or "")


def _request(archive: Archive, kind: str, reference: str) -> Request:
    region, now = archive.config.region, datetime.now(UTC)
    by = host_actor().name
    return Request(new_id(kind, now), region.id, region.entity, now, by, reference)


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

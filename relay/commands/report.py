"""`relay report`: the transparency report of a quarter."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from relay.access.report import Place, Quarter, Region, Tally, document
from relay.access.report_page import page
from relay.archive import Archive, host_actor
from relay.commands.shared import MISTAKEN, ConfigOption, give, print_json, stderr, with_archive
from relay.database.call_records import Query
from relay.residency.boundary import Boundary

# Reads of personal data (`access.reading`); by a grant, if their actor has one.
READS = ("call-read", "calls-read", "receipt-read", "recording-read", "recording-played")
ONCE = {"grant-approved": "approved", "grant-revoked": "revoked"}  # by each grant, in this state
COUNTED = ("calls", "recordings")  # details that are summed, as action:detail


def report(
    quarter: Annotated[str, typer.Option("--quarter", help="Such as 2026Q4 (UTC).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIRECTORY", help="Where its files go.")
    ] = Path(),
    config: ConfigOption = None,
) -> None:
    """Write what a quarter's transparency report says: a page (HTML, whole by itself) and the same
    figures as JSON. They are counts: no customer and no person is in them.

    Exit code 0: done; 1: it failed; 2: a mistake.
    """
    try:
        wanted = Quarter.parse(quarter)
    except ValueError as mistake:
        stderr().print(str(mistake))
        raise typer.Exit(MISTAKEN) from None

    async def steps(archive: Archive) -> int:
        tally = Tally(wanted)
        query = Query(since=wanted.since, until=wanted.until, limit=1000)
        async for record in archive.call_records.each(query):
            tally.add(record)
        counts = actions(archive.audit.files.lines())
        made = document(tally, region(archive), counts, datetime.now(UTC))
        await archive.audit.record("report-made", host_actor(), wanted.name)
        output.mkdir(parents=True, exist_ok=True)
        name = f"report-{archive.config.region.id}-{wanted.name}"
        (output / f"{name}.html").write_text(page(made), "utf-8")
        give(made, output / f"{name}.json")
        print_json(page=str(output / f"{name}.html"), json=str(output / f"{name}.json"))
        return 0

    with_archive(config, steps)


def actions(lines: Iterable[bytes]) -> dict[str, Counter[str]]:
    """How often each action is in the audit log, by month; equal notes are one entry that says
    how many `times`."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    decided: set[tuple[str, str]] = set()
    for line in lines:
        entry = json.loads(line)
        month, details = str(entry["at"])[:7], entry.get("details", {})
        if (state := ONCE.get(entry["action"])) is not None:
            if details.get("state") != state or (state, entry["subject"]) in decided:
                continue
            decided.add((state, entry["subject"]))
        times = int(details.get("times", 1))
        found[entry["action"]][month] += times
        if entry["actor"].get("grant") and entry["action"] in READS:
            found["grant-used"][month] += times
        for name in COUNTED:
            if isinstance(count := details.get(name), int):  # of a read: the ids of the calls
                found[f"{entry['action']}:{name}"][month] += count
    return found


def region(archive: Archive) -> Region:
    """What the configuration and the keys say at the moment."""
    config = archive.config
    bucket = urlsplit(config.recording.s3.endpoint).hostname if config.recording.s3 else None
    database = None if config.database.file else config.database.place.host
    places = [
        ("recordings", config.recording.store, bucket),
        ("recordings on their way", config.recording.spool, None),
        ("database", config.database.url, database),
        ("records on their way", config.database.queue, None),
        ("audit log", config.audit.directory, None),
        ("keys", config.keys.directory, None),
        *(
            # A webhook's path may be its secret, and this is published.
            ("audit anchor", f"https://{host}" if host else anchor, host)
            for anchor, host in ((each, urlsplit(each).hostname) for each in config.audit.anchors)
        ),
    ]
    return Region(
        id=config.region.id,
        jurisdiction=config.region.jurisdiction,
        entity=config.region.entity,
        policy=archive.policy,
        manifest="signed" if archive.check_manifest() else "unsigned",
        enforced=config.region.enforce,
        places=tuple(
            Place(what, where, _lies(archive.boundary, host)) for what, where, host in places
        ),
        keys=tuple((key.id, key.state.value) for key in archive.keys.listed()),
    )


def _lies(boundary: Boundary, host: str | None) -> str:
    """Where a host is; a name is looked up, and its addresses judged, each time it is used."""
    if host is None:
        return "on the node"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "inside, or refused at use" if boundary.enforce else "not known: nothing is refused"
    return "inside" if boundary.holds(host) else "outside"

"""`relay export usage`: what leaves the region for billing and support, under pseudonyms."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.access.usage import LEAST_K, CallUsage, Export, K, NumberUsage, Period, export
from relay.archive import Archive, host_actor
from relay.commands.shared import MISTAKEN, ConfigOption, give, print_json, stderr, with_archive
from relay.database.call_records import Query
from relay.database.exports import Exported
from relay.residency.pseudonym import Pseudonyms
from relay.residency.signing import canonical, signed

KIND = "relay-usage-export"
NAMES = (
    "export.json",
    *(f"{rows}.{form}" for rows in ("calls", "numbers") for form in ("jsonl", "parquet")),
)
_RECIPIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

app = typer.Typer(
    name="export",
    help="What may leave the region.",
    epilog="Example:  relay export usage --recipient billing --period 2026-11 -o export/\n\n"
    "Exit codes:  0 done  ·  1 failed, and nothing was written  ·  2 a mistake in the input",
    no_args_is_help=True,
)


class Format(StrEnum):
    JSONL = "jsonl"
    PARQUET = "parquet"


@app.command(epilog="Example:  relay export usage --recipient billing --period 2026-11 -o export/")
def usage(
    recipient: Annotated[str, typer.Option("--recipient", help="Who gets it: a short name.")],
    period: Annotated[str, typer.Option("--period", help="A month, such as 2026-11 (UTC).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIRECTORY", help="Where its files go.")
    ],
    form: Annotated[Format, typer.Option("--format", help="Of the rows.")] = Format.JSONL,
    k: Annotated[
        int, typer.Option("--k", min=LEAST_K, help="Rows look like those of so many callers.")
    ] = K,
    config: ConfigOption = None,
) -> None:
    """Write a month's usage: one row a call and one a number, under pseudonyms of this recipient
    and month only, and a signed summary. No number, address, name or call id is in it.

    Exit code 0: done; 1: it failed, and nothing was written; 2: a mistake.
    """
    month = _checked(recipient, period, form, output)

    async def steps(archive: Archive) -> int:
        made = await _made(archive, recipient, month, k)
        files = {
            f"calls.{form.value}": _encoded(form, CallUsage, made.calls),
            f"numbers.{form.value}": _encoded(form, NumberUsage, made.numbers),
        }
        document = _document(archive, made, month, recipient, k, files)
        digest = hashlib.sha256(canonical(document)).hexdigest()
        counts: dict[str, int] = {"calls": len(made.calls), "numbers": len(made.numbers)}
        # First the entry, then the files: nothing leaves that is not in the log.
        await _recorded(archive, document, digest, counts)
        output.mkdir(parents=True, exist_ok=True)
        for file, octets in files.items():
            (output / file).write_bytes(octets)
        give(document, output / "export.json")
        print_json(id=document["id"], sha256=digest, **counts, numbers_apart=made.numbers_apart)
        return 0

    with_archive(config, steps)


def _checked(recipient: str, period: str, form: Format, output: Path) -> Period:
    """The month; mistakes are told before anything is read."""
    try:
        month = Period.parse(period)
        if not _RECIPIENT.fullmatch(recipient):
            raise ValueError("--recipient is a short name such as billing")
        if (there := next((name for name in NAMES if (output / name).exists()), None)) is not None:
            # Or one recipient would get what another one was to have.
            raise ValueError(f"{output / there} is there already: it is not overwritten")
        if form is Format.PARQUET:
            import pyarrow  # noqa: F401  (an extra)
    except ValueError as mistake:
        stderr().print(str(mistake))
        raise typer.Exit(MISTAKEN) from None
    except ImportError:
        stderr().print("Parquet needs a package: pip install 'regional-voice-relay\\[export]'")
        raise typer.Exit(MISTAKEN) from None
    return month


def _document(
    archive: Archive, made: Export, month: Period, recipient: str, k: int, files: dict[str, bytes]
) -> dict[str, Any]:
    """What was exported, signed: who got what, totals, and the digests of the files."""
    region, now = archive.config.region, datetime.now(UTC)
    return signed(
        {
            "kind": KIND,
            "version": 1,
            "id": f"export-{now:%Y%m%d}-{secrets.token_hex(4)}",
            "region": region.id,
            "entity": region.entity,
            "recipient": recipient,
            "period": month.name,
            "made": now.isoformat(timespec="seconds"),
            "k": k,
            **made.summary(),
            "files": {file: hashlib.sha256(octets).hexdigest() for file, octets in files.items()},
        },
        archive.keys.signer,
    )


async def _recorded(
    archive: Archive, document: dict[str, Any], digest: str, counts: dict[str, int]
) -> None:
    """In the audit log, and then for the transparency report."""
    actor, name = host_actor(), document["id"]
    recipient, period = document["recipient"], document["period"]
    await archive.audit.record(
        "export-made", actor, name, sha256=digest, recipient=recipient, period=period, **counts
    )
    made = datetime.fromisoformat(document["made"])
    exported = Exported(name, made, actor.name, recipient, period, sha256=digest, **counts)
    await archive.exports.keep(exported)


async def _made(archive: Archive, recipient: str, month: Period, k: int) -> Export:
    query = Query(since=month.since, until=month.until, limit=1000)
    records = [record async for record in archive.call_records.each(query)]
    pseudonyms = Pseudonyms(archive.keys.pseudonym_key(recipient, month.name))
    region = archive.config.region
    return export(records, region.entity, region.id, pseudonyms.of, k)


def _encoded(form: Format, kind: type[Any], rows: Sequence[Any]) -> bytes:
    if form is Format.JSONL:
        lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        return "".join(lines).encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "str": pa.string()}
    schema = pa.schema([(each.name, types[str(each.type)]) for each in fields(kind)])
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    written = pa.BufferOutputStream()
    pq.write_table(table, written, compression="zstd")
    return bytes(written.getvalue().to_pybytes())

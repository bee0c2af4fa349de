"""`relay recordings`: which there are, one of them as a file, and whether it is what it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from relay.access.ports import Query
from relay.access.reading import Audio
from relay.access.roles import Staff
from relay.archive import Archive
from relay.commands.as_staff import TokenOption, acting
from relay.commands.shared import (
    FAILED,
    ConfigOption,
    JsonOption,
    asked,
    failing,
    ids,
    not_there,
    opened,
    print_json,
    stderr,
)
from relay.errors import KeyMissing, NotAuthentic
from relay.keys.customer import PrivateKey
from relay.recording import ledger
from relay.recording.decryption import write_wav
from relay.recording.envelope import Envelope, octets_of
from relay.recording.formats import Format
from relay.residency.record import CallRecord

PIECE = 1 << 20
"""Octets that are in memory in clear at once, of a WAV file."""

app = typer.Typer(
    name="recordings",
    help="Recordings: list, export and verify them.",
    epilog="Examples:  relay recordings list -c region.toml  ·  "
    "relay recordings export 9f3c… -o call.flac --format flac  ·  "
    "relay recordings export 9f3c… -o - | aplay  ·  relay recordings verify 9f3c…  ·  "
    "relay recordings decrypt 061500-9f3c….rec --private-key acme.json -o a.wav\n\n"
    "Exit codes:  0 done  ·  1 failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

RecordingId = Annotated[str, typer.Argument(metavar="RECORDING", help="The id of a recording.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="A new file; - is standard output.")
]


@app.command("list")
def list_recordings(
    peer: Annotated[
        str | None, typer.Option("--peer", help="Of this trunk or account only.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The recordings that are known, the newest first: of whom is not shown."""

    async def ask(archive: Archive) -> list[CallRecord]:
        query = Query(peer=peer, recorded=True)
        return [each async for each in archive.call_records.each(query)]

    with opened(config) as archive:
        calls = asked(archive, ask)
    rows = [_row(call) for call in calls]
    if as_json:
        print_json(recordings=rows)
        return
    table = Table(ids("id"), *list(rows[0])[1:] if rows else (), title=f"{len(rows)} recordings")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(highlight=False).print(table)


def _row(call: CallRecord) -> dict[str, Any]:
    kept = call.recording
    assert kept is not None
    return {
        "id": kept.id,
        "started": call.started.isoformat(timespec="seconds"),
        "between": " and ".join(leg.peer for leg in call.legs),
        "seconds": round(kept.duration_s, 1),
        "complete": kept.complete,
        "keys": ", ".join(kept.keys),
    }


@app.command()
def export(
    recording: RecordingId,
    output: Output,
    form: Annotated[
        Format, typer.Option("--format", help="wav is G.711 as it was recorded.")
    ] = Format.WAV,
    trim: Annotated[
        bool | None,
        typer.Option("--trim/--no-trim", help="Leave out the silence before and after."),
    ] = None,
    config: ConfigOption = None,
    token: TokenOption = None,
) -> None:
    """A recording in clear, in a new file of mode 0600. It is an entry of the audit log."""

    async def step(archive: Archive, staff: Staff, now: datetime) -> int:
        found = await archive.reading.play(staff, recording, now, form.value, trim)
        return await _written(found, output)

    not_there(output)
    octets = acting(config, token, step)
    stderr().print(f"{octets:,} octets of {form.media_type} in {escape(str(output))}")


async def _written(found: Audio, output: Path) -> int:
    with (
        _opened(output) as file,
        Progress(console=stderr(), transient=True, disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("decrypting", total=found.size)
        for start in range(0, found.size, PIECE):
            end = min(start + PIECE, found.size)
            file.write(await found.read(start, end, datetime.now(UTC)))
            bar.advance(task, PIECE)
    return found.size


def _opened(output: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if str(output) == "-" else _new_file(output)


@contextmanager
def _new_file(output: Path) -> Iterator[BinaryIO]:
    """That nobody else may read, and that is gone again when it does not become whole."""
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
    except BaseException:
        output.unlink(missing_ok=True)
        raise


@app.command()
def verify(
    recording: RecordingId, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Whether a recording is octet by octet what was stored when its call ended.

    Exit code 0: it is; 1: it is not, or cannot be read, and why.
    """
    with opened(config) as archive:
        found = asked(archive, lambda archive: archive.recordings.verify(recording))
    entry = found.ledger
    if as_json:
        print_json(
            recording=recording, ok=True, sha256=entry.sha256, octets=found.octets,
            complete=entry.complete, object=found.record.object,
        )  # fmt: skip
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[green]✓[/] {escape(found.record.object)}: {found.octets:,} octets, unchanged")
    console.print(f"  sha256 {entry.sha256}")
    if not entry.complete:
        console.print(f"[yellow]![/] it is not complete: {entry.problem or 'packets are missing'}")


@app.command()
def decrypt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The encrypted recording.")],
    private_key: Annotated[
        Path, typer.Option("--private-key", metavar="FILE", help="The customer's private key.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The WAV file to make.")
    ],
    sidecar: Annotated[
        Path | None,
        typer.Option("--ledger", metavar="FILE", help="Its ledger; beside it by default."),
    ] = None,
) -> None:
    """A customer decrypts a recording that is encrypted to their public key.

    Works offline and without a configuration, on the two files as they came from the store.
    """
    not_there(output)
    with failing():
        entry = ledger.of(file) if sidecar is None else _read(sidecar)
        if entry.envelope is None:
            raise NotAuthentic(f"{file}: its ledger does not say how it is encrypted")
        data_key = _unwrapped(entry.envelope, PrivateKey.read(private_key))
        with _new_file(output) as clear:
            write_wav(clear, file, data_key, entry)
    if not entry.sealed:
        stderr().print("It ends before its call did: the relay was interrupted.")


def _read(path: Path) -> ledger.Ledger:
    try:
        return ledger.read(path)
    except ValueError as mistake:
        stderr().print(str(mistake))
        raise typer.Exit(FAILED) from None


def _unwrapped(envelope: Envelope, private: PrivateKey) -> bytes:
    mine = next((key for key in envelope.keys if key.key == private.public.id), None)
    if mine is None:
        named = ", ".join(key.key for key in envelope.keys) or "no key any more"
        raise KeyMissing(f"it is encrypted to {named}, not to {private.public.id}")
    return private.unwrap(octets_of(mine), envelope.context)

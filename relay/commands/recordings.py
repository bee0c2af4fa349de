"""`relay recordings`: what was recorded, in clear, for who has the key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from relay.commands.shared import FAILED, MISTAKEN, failing, stderr
from relay.errors import KeyMissing, NotAuthentic
from relay.keys.customer import PrivateKey
from relay.recording import ledger
from relay.recording.decryption import write_wav
from relay.recording.envelope import Envelope, octets_of

app = typer.Typer(
    name="recordings",
    help="Recordings, in clear, for who has the key.",
    epilog="Examples:  relay recordings decrypt 9f3c.wav --private-key acme.json -o a.wav\n\n"
    "Exit codes:  0 done  ·  1 failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)


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
    if output.exists():
        stderr().print(f"{output} is there already: it is not overwritten")
        raise typer.Exit(MISTAKEN)
    with failing():
        entry = ledger.of(file) if sidecar is None else _read(sidecar)
        if entry.envelope is None:
            raise NotAuthentic(f"{file}: its ledger does not say how it is encrypted")
        data_key = _unwrapped(entry.envelope, PrivateKey.read(private_key))
        try:
            fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as clear:
                write_wav(clear, file, data_key, entry)
        except Exception:
            output.unlink(missing_ok=True)
            raise
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

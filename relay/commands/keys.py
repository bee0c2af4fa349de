"""`relay keys`: the region's keys are made, rotated and retired."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.archive import Archive
from relay.commands.shared import (
    FAILED,
    MISTAKEN,
    ConfigOption,
    JsonOption,
    failing,
    ids,
    not_there,
    opened,
    print_json,
    recorded,
    stderr,
)
from relay.errors import KeyMissing
from relay.keys.customer import CustomerKey, PrivateKey
from relay.keys.signing import pem
from relay.keys.state import KeyState

app = typer.Typer(
    name="keys",
    help="The region's keys: what is kept is encrypted and signed with them.",
    epilog="Examples:  relay keys create -c region.toml  ·  relay keys rotate recordings  ·  "
    "relay keys public -o region.pub.pem\n\n"
    "Exit codes:  0 done  ·  1 failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `relay keys list` has it.")]


class Purpose(Enum):
    """What keys are for; as `keys.ring.PURPOSES`."""

    RECORDINGS = "recordings"
    PERSONAL = "personal"
    INDEX = "index"
    PSEUDONYMS = "pseudonyms"
    SIGNING = "signing"


MEANT_FOR = {
    "recordings": "wraps the data key of each recording",
    "personal": "seals numbers, names and addresses in the database",
    "index": "finds them there without opening them",
    "pseudonyms": "stands behind the pseudonyms in what leaves the region",
    "signing": "signs receipts, audit checkpoints and certificates",
}


@app.command()
def create(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the keys that are missing; those that are there stay.

    They are files in keys.directory, which nobody else may read. Make a copy of it that is
    kept as safely: what is encrypted is lost with its key.
    """
    with opened(config) as archive:
        made = created(archive)
    if as_json:
        print_json(directory=str(archive.keys.directory), made=made)
    elif made:
        typer.echo("\n".join(made))
        stderr().print(
            f"Made {len(made)} keys in {archive.keys.directory}: keep a copy as safe as they are."
        )
    else:
        stderr().print(f"No key was missing in {archive.keys.directory}.")


def created(archive: Archive) -> list[str]:
    """Make what is missing in a region; the ids. Raises RelayError, OSError."""
    missing = archive.keys.missing()
    if not missing:
        return []
    recorded(archive, "keys-create", ",".join(missing))
    made = archive.keys.create(archive.keys.directory)[1]
    recorded(archive, "keys-created", ",".join(made))
    return list(made)


@app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys, what they are for, and which of them is used for what is new."""
    with opened(config) as archive:
        ring = archive.keys
        found = ring.listed()
    if as_json:
        rows = [{"id": key.id, "purpose": key.purpose, "state": key.state.value} for key in found]
        print_json(directory=str(ring.directory), keys=rows)
        return
    table = Table(ids("key"), "state", "what it does", title=f"Keys in {ring.directory}")
    for key in found:
        table.add_row(key.id, key.state.value, MEANT_FOR[key.purpose])
    Console(highlight=False).print(table)


@app.command()
def rotate(
    purpose: Annotated[Purpose, typer.Argument(help="What the new key is for.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """A new key is used from now on, also by a running relay; the one before still opens what
    it has sealed. A retired signing key still verifies."""
    with opened(config) as archive:
        archive.keys.listed([purpose.value])
        recorded(archive, "keys-rotate", purpose.value)
        made = archive.keys.rotate(purpose.value)
        recorded(archive, "keys-rotated", made)
    print_json(key=made) if as_json else typer.echo(made)


@app.command()
def retire(
    key: KeyId,
    config: ConfigOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back into use.")] = False,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="For good: what it has sealed is lost for ever.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --destroy.")] = False,
) -> None:
    """A key that is not the primary one is used for nothing any more.

    What it has sealed cannot be opened until --undo. With --destroy it is erased.
    """
    if undo and destroy:
        stderr().print("--undo and --destroy exclude each other")
        raise typer.Exit(MISTAKEN)
    if destroy and not yes:
        _confirm(f"Everything that {key} has sealed is lost for ever. Destroy it?")
    state = KeyState.ENABLED if undo else KeyState.DESTROYED if destroy else KeyState.RETIRED
    with opened(config) as archive:
        recorded(archive, "keys-retire", key, state=state.value)
        archive.keys.change(key, state)
    stderr().print(f"{escape(key)} is {state.value} now.")


@app.command()
def public(
    config: ConfigOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Retired ones, too.")] = False,
) -> None:
    """The public half of the signing key (PEM): with it anybody verifies receipts and the audit
    log, offline."""
    with opened(config) as archive:
        ring = archive.keys
        keys = list(ring.public_keys.values())
        text = b"".join(pem(key) for key in (keys if every else keys[-1:])).decode()
        if output is not None:
            output.write_text(text)
            return
    typer.echo(text, nl=False)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Whether every key is there, can be used, and is safe from others.

    Exit code 0: they are; 1: one is not.
    """
    with opened(config) as archive:
        problem = ""
        try:
            archive.keys.check()
            for peer in archive.config.peers:
                if peer.recording_key is not None:
                    CustomerKey.read(peer.recording_key)
        except KeyMissing as missing:
            problem = str(missing)
    if as_json:
        print_json(ok=not problem, problem=problem)
    else:
        stderr().print(f"✗ {escape(problem)}" if problem else "✓ every key can be used")
    if problem:
        raise typer.Exit(FAILED)


@app.command()
def customer(
    private: Annotated[Path, typer.Option("--private", metavar="FILE", help="The private half.")],
    public: Annotated[Path, typer.Option("--public", metavar="FILE", help="The public half.")],
) -> None:
    """Make a customer's key pair. Its public half is for `recording_key`; its private half
    belongs to the customer alone, who plays back what is recorded for them.

    Needs no configuration: run it where the private half is to stay.
    """
    not_there(private, public)
    with failing():
        pair = PrivateKey.create()
        pair.write(private, public)
    typer.echo(pair.public.id)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        stderr().print("--destroy asks before it does it: confirm with --yes")
        raise typer.Exit(MISTAKEN)
    typer.confirm(question, abort=True, err=True)

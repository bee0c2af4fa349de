"""`relay receipt`: where a call's media and data went, shown here and verified anywhere."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from relay.access.roles import Staff
from relay.archive import Archive
from relay.commands.as_staff import TokenOption, acting
from relay.commands.offline import KeysOption, document, mistaken, public_keys
from relay.commands.shared import FAILED, ConfigOption, JsonOption, cell, give, print_json
from relay.errors import ConfigError
from relay.residency.receipt import Verified, verify

app = typer.Typer(
    name="receipt",
    help="The signed receipt of a call: every address, and the boundary's verdict on it.",
    epilog="Examples:  relay receipt show 9f3c01aa --token maeve.jwt > receipt.json  ·  "
    "relay receipt verify receipt.json --key region.pub.pem\n\n"
    "Exit codes:  0 done, or it verifies  ·  1 failed, or it does not  ·  2 a mistake in the input",
    no_args_is_help=True,
)


@app.command()
def show(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Its id.")],
    config: ConfigOption = None,
    token: TokenOption = None,
) -> None:
    """The receipt of a call, as JSON. That it was read is an entry of the audit log."""

    async def step(archive: Archive, staff: Staff, now: datetime) -> dict[str, Any]:
        return await archive.reading.receipt(staff, call, now)

    give(acting(config, token, step))


@app.command("verify")
def verify_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of `relay receipt show`.")],
    key: KeysOption,
    recording: Annotated[
        Path | None,
        typer.Option("--recording", metavar="FILE", help="The encrypted recording, as stored."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Whether a receipt is what was signed, and whether all that was used lies inside.

    Offline, without a configuration: the public key is enough. With --recording its digest
    is compared, too.
    """
    with mistaken():
        keys, receipt = public_keys(key), document(file)
        digest = None if recording is None else _digest(recording)
        if not isinstance(receipt, dict):
            raise ConfigError(str(file), ["is no receipt"])
    found = verify(receipt, keys)
    problem = found.problem
    if not problem and digest is not None and digest != (receipt["recording"] or {}).get("sha256"):
        problem = f"{recording} is not the recording that it names: another digest"
    ok = found.contained and not problem
    if as_json:
        print_json(ok=ok, **{**asdict(found), "problem": problem})
    else:
        _print(found, problem, ok)
    raise typer.Exit(0 if ok else FAILED)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _print(found: Verified, problem: str, ok: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Call {cell(found.call)}: {found.addresses} remote addresses")
    for each in found.refused:
        console.print(f"  outside, and refused: {cell(each)}")
    for each in found.used_outside:
        console.print(f"  [red]✗[/] outside, and used in a dry run: {cell(each)}")
    if problem:
        console.print(f"  [red]✗[/] {cell(problem)}")
    console.print("[green]✓ verified[/]" if ok else "[red]✗ not verified[/]")

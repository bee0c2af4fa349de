"""`relay audit`: the audit log is shown, signed, exported, and an export verified anywhere."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from relay.commands.offline import KeysOption, mistaken, public_keys
from relay.commands.shared import (
    FAILED,
    ConfigOption,
    JsonOption,
    cell,
    opened,
    print_json,
    recorded,
    stderr,
)
from relay.residency.audit_verify import Findings, verify

app = typer.Typer(
    name="audit",
    help="The audit log: who did what, in a chain that no one can change unseen.",
    epilog="Examples:  relay audit export -c region.toml -o audit.jsonl  ·  "
    "relay audit verify audit.jsonl --key region.pub.pem --anchor worm.jsonl  ·  "
    "relay audit tail\n\n"
    "Exit codes:  0 done, or it verifies  ·  1 failed, or it does not  ·  2 a mistake in the input",
    no_args_is_help=True,
)


@app.command("verify")
def verify_export(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Of `relay audit export`.")],
    key: KeysOption,
    anchor: Annotated[
        list[Path] | None,
        typer.Option("--anchor", metavar="FILE", help="What an anchor kept: a checkpoint a line."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Whether an export is what was written: nothing changed, deleted, cut off or moved.

    Offline, without a configuration: the public key is enough. What an anchor outside has
    kept shows in addition whether the log was cut back or written anew.
    """
    with mistaken():
        keys = public_keys(key)
        anchors = [line for path in anchor or () for line in path.read_bytes().splitlines()]
        with export.open("rb") as lines:
            found = verify(lines, keys, anchors)
    if as_json:
        print_json(**found.as_json())
    else:
        _print_findings(found)
    raise typer.Exit(0 if found.ok else FAILED)


@app.command("export")
def export_log(
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "--out", "-o", metavar="FILE", help="Standard output without."),
    ] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="The first entry.")] = 1,
) -> None:
    """The log with a signed seal at its end, as `relay audit verify` takes it.

    That it was exported is an entry, the last but one.
    """
    with opened(config) as archive:
        signer = archive.keys.signer
        recorded(archive, "audit-exported", "", first=first)
        lines = archive.audit.files.export(signer, first)
        if out is None:
            sys.stdout.buffer.writelines(lines)
            sys.stdout.buffer.flush()
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(out, flags, 0o600), "wb") as file:
            file.writelines(lines)


@app.command()
def tail(
    config: ConfigOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many entries.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """The last entries."""
    with opened(config) as archive:
        lines = deque(archive.audit.files.lines(), count)
    for line in lines:
        typer.echo(line.decode() if as_json else _told(json.loads(line)))


@app.command()
def checkpoint(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Sign the log as it is now, and tell its anchors."""
    with opened(config) as archive:
        made = archive.audit.checkpoint()
        failed = archive.anchors.tell(made)
    if as_json:
        print_json(checkpoint=made, failed=failed)
    else:
        typer.echo(f"Entry {made['n']} signs all before it, by {made['signature']['key']}.")
        for name, problem in failed.items():
            stderr().print(f"[red]✗[/] {cell(name)} did not take it: {cell(problem)}")
    raise typer.Exit(FAILED if failed else 0)


def _told(entry: dict[str, Any]) -> str:
    actor, details = entry["actor"], entry.get("details", {})
    grant = f" grant={actor['grant']}" if "grant" in actor else ""
    more = "".join(f" {name}={value}" for name, value in details.items())
    what = f"{entry['action']} {entry.get('subject', '')}".rstrip()
    return f"{entry['n']}  {entry['at']}  {actor['kind']}:{actor['name']}{grant}  {what}{more}"


def _print_findings(found: Findings) -> None:
    console = Console(highlight=False, soft_wrap=True)
    of = f"of {cell(found.node)}, region {cell(found.region)}: " if found.node else ""
    console.print(f"Audit log {of}entries {found.first} to {found.last}")
    console.print(f"  from {cell(found.began)} to {cell(found.ended)}")
    console.print(
        f"  {found.checkpoints} checkpoints, {found.anchors} of them anchored; "
        f"sealed {cell(found.sealed) or 'never'}"
    )
    if found.clock_steps:
        console.print(f"  the clock of the node went back {found.clock_steps} times")
    for problem in found.problems:
        console.print(f"  [red]✗[/] {cell(problem)}")
    if found.more_problems:
        console.print(f"  [red]✗[/] and {found.more_problems} more")
    console.print("[green]✓ verified[/]" if found.ok else "[red]✗ not what was written[/]")

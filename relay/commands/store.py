"""`relay store`: whether recordings can be stored, where they are, and those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.archive import Archive
from relay.commands.shared import (
    FAILED,
    ConfigOption,
    JsonOption,
    ids,
    opened,
    print_json,
    stderr,
)
from relay.errors import NotStored, RelayError, StoreConflict, Unclaimed
from relay.recording import spool
from relay.recording.directory import Stored
from relay.recording.store import Store

app = typer.Typer(
    name="store",
    help="Recordings on their way in the spool, and in their store.",
    epilog="Examples:  relay store check -c region.toml  ·  relay store list --prefix 2026/11/  ·  "
    "relay store retry\n\nExit codes:  0 done  ·  1 failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

T = TypeVar("T")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Whether the store may be used and can be: a small object is put, read and deleted.

    Says what the store lacks, and how many recordings wait in this node's spool.
    """
    with opened(config) as archive:
        waiting = len(spool.waiting(archive.store.spool))
        lacks = asyncio.run(_closing(archive.store, archive.store.place.probe()))
    name = archive.config.recording.store
    if as_json:
        print_json(store=name, ok=True, lacks=lacks, waiting=waiting)
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[green]✓[/] {escape(name)} takes an object, and gives it back as it was")
    for text in lacks:
        console.print(f"[yellow]![/] {escape(text)}")
    console.print(f"  {_recordings(waiting)} in {escape(str(archive.store.spool))}")


@app.command("list")
def list_objects(
    prefix: Annotated[str, typer.Option("--prefix", help="Whose names begin so.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The recordings that are closed, by their names, and where each is."""
    with opened(config) as archive:
        found = asyncio.run(_closing(archive.store, _listed(archive.store, prefix)))
    if as_json:
        rows = [
            {
                "object": each.name,
                "octets": each.octets,
                "where": each.where,
                "modified": each.modified.isoformat(),
            }
            for each in found
        ]
        print_json(store=archive.config.recording.store, objects=rows)
        return
    table = Table(ids("object"), "octets", "where", title=escape(archive.config.recording.store))
    table.columns[1].justify = "right"
    for each in found:
        table.add_row(each.name, f"{each.octets:,}", each.where)
    Console(highlight=False).print(table)


@app.command()
def retry(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ship the recordings that wait in this node's spool, now; a running node goes on meanwhile.

    Exit code 0: none waits any more; 1: some do, and why.
    """
    with opened(config) as archive:
        shipped, problems = asyncio.run(_closing(archive.store, _retried(archive)))
    if as_json:
        print_json(shipped=shipped, waiting=problems)
    else:
        typer.echo("\n".join(shipped), nl=bool(shipped))
        for name, problem in problems.items():
            stderr().print(f"[red]✗[/] {escape(name)}: {escape(problem)}")
        stderr().print(f"{_recordings(len(problems))} still, {len(shipped)} shipped now")
    if problems:
        raise typer.Exit(FAILED)


async def _closing(store: Store, asked: Awaitable[T]) -> T:
    try:
        return await asked
    finally:
        await store.close()


async def _listed(store: Store, prefix: str) -> list[Stored]:
    return [each async for each in store.list(prefix)]


async def _retried(archive: Archive) -> tuple[list[str], dict[str, str]]:
    """What was shipped; what was not, and why. One that is stuck holds up no other."""
    store = archive.store
    names = spool.waiting(store.spool)
    shipped, problems = [], {}
    if names:
        await store.place.check()
    for name in names:
        try:
            if await store.ship(name):
                shipped.append(name)
        except (StoreConflict, NotStored, Unclaimed) as error:
            problems[name] = str(error)
        except RelayError as error:  # the store's, and so that of all others
            rest = names[names.index(name) :]
            problems.update(dict.fromkeys(rest, str(error)))
            break
    return shipped, problems


def _recordings(count: int) -> str:
    return f"{count} recording{'s'[: count != 1]} wait{'s'[: count == 1]}"

"""`relay database`: whether the database answers and is up to date, and bringing it there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from relay.archive import Archive
from relay.commands.shared import FAILED, ConfigOption, JsonOption, opened, print_json
from relay.database.session import Database

app = typer.Typer(
    name="database",
    help="The database of call records and grants.",
    epilog="Examples:  relay database check -c region.toml  ·  relay database upgrade\n\n"
    "Exit codes:  0 done  ·  1 failed, or not up to date  ·  2 a mistake in the input",
    no_args_is_help=True,
)

T = TypeVar("T")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Whether it answers, and which steps (migrations) it lacks. Changes nothing.

    Exit code 0: it is up to date; 1: it lacks a step, or does not answer.
    """
    with opened(config) as archive:
        missing = _run(archive, Database.missing)
    url = archive.config.database.url
    if as_json:
        print_json(database=url, ok=not missing, missing=missing)
    elif missing:
        Console(highlight=False, soft_wrap=True).print(
            f"[yellow]![/] {escape(url)} lacks {', '.join(missing)}: `relay database upgrade` "
            "brings it up to date, and so does the start of a node"
        )
    else:
        Console(highlight=False, soft_wrap=True).print(f"[green]✓[/] {escape(url)} is up to date")
    if missing:
        raise typer.Exit(FAILED)


@app.command()
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring its tables up to date; safe while nodes run, and to repeat.

    Exit code 0: it is up to date; 1: it does not answer.
    """
    with opened(config) as archive:
        _run(archive, Database.open)
    url = archive.config.database.url
    if as_json:
        print_json(database=url, ok=True)
    else:
        Console(highlight=False, soft_wrap=True).print(f"[green]✓[/] {escape(url)} is up to date")


def _run(archive: Archive, what: Callable[[Database], Awaitable[T]]) -> T:
    async def main() -> T:
        try:
            return await what(archive.database)
        finally:
            await archive.database.close()

    return asyncio.run(main())

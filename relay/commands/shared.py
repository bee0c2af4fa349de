"""What the commands have in common: the configuration, mistakes, JSON and exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column

from relay.archive import Archive, host_actor
from relay.config import Config, example, load
from relay.database import session
from relay.errors import ConfigError, RelayError

FAILED = 1
MISTAKEN = 2

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The region's configuration (TOML)."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def loaded(path: Path | None) -> Config:
    """The file, or the embedded example. Raises ConfigError."""
    return example() if path is None else load(path)


def stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def ids(heading: str) -> Column:
    """A column of a table whose texts are to be copied: whole, whatever the width."""
    return Column(heading, no_wrap=True, overflow="ignore", min_width=16)


def print_json(**fields: Any) -> None:
    """In ASCII: what a peer wrote, such as control characters, does nothing to a terminal."""
    typer.echo(json.dumps(fields))


def cell(text: str) -> str:
    """What somebody wrote, as it may be shown: neither markup nor control characters."""
    return escape("".join(each if each.isprintable() else "�" for each in text))


def give(document: Mapping[str, Any], output: Path | None = None) -> None:
    """A document as JSON for a file, or as `print_json` does. Raises OSError."""
    if output is None:
        typer.echo(json.dumps(document, indent=2))
    else:
        text = json.dumps(document, indent=2, ensure_ascii=False)
        output.write_text(text + "\n", "utf-8")


def not_there(*paths: Path) -> None:
    """New files only: what is there is never overwritten by a command that makes keys or audio."""
    for path in paths:
        if path.exists():
            stderr().print(f"[red]✗[/] {escape(str(path))} is there already: it is not overwritten")
            raise typer.Exit(MISTAKEN)


def print_mistakes(error: ConfigError) -> None:
    """Each on its line, on standard error."""
    count = len(error.mistakes)
    console = stderr()
    console.print(f"[bold red]{escape(error.file)}: {count} mistake{'s'[: count > 1]}[/]")
    for mistake in error.mistakes:
        console.print(f"  [red]✗[/] {cell(mistake)}")


@contextmanager
def failing() -> Iterator[None]:
    """What fails is told on standard error, and is exit code 1; mistakes are 2."""
    try:
        yield
    except ConfigError as error:
        print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    except (RelayError, OSError) as error:
        stderr().print(f"[red]✗[/] {cell(str(error))}")
        raise typer.Exit(FAILED) from None


@contextmanager
def opened(config: Path | None) -> Iterator[Archive]:
    """A region's archive; what fails with it is told as by `failing`."""
    with failing():
        yield Archive(loaded(config))


def recorded(archive: Archive, action: str, subject: str, **details: str | int) -> None:
    """An entry of the audit log, before something is done by hand. Raises AuditUnavailable."""
    archive.audit.enter(action, host_actor(), subject, **details)


def with_archive(config: Path | None, steps: Callable[[Archive], Awaitable[int]]) -> None:
    """Do the steps with a region's archive, its database up to date; exit with their code."""
    with opened(config) as archive:
        code = asked(archive, steps)
    raise typer.Exit(code)


def asked(archive: Archive, ask: Callable[[Archive], Awaitable[T]]) -> T:
    """What is asked of an archive, its database up to date; then all of it is closed."""
    return asyncio.run(_asked(archive, ask))


async def _asked(archive: Archive, ask: Callable[[Archive], Awaitable[T]]) -> T:
    try:
        async with session.opened(archive.database):
            return await ask(archive)
    finally:
        await archive.close()

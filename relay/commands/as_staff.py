"""Who runs a command that reads what is kept: staff by its token, or who runs the node."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from relay.access.roles import Policy, Staff, on_this_node
from relay.archive import Archive, host_actor
from relay.commands.shared import asked, opened
from relay.errors import ConfigError

VARIABLE = "RELAY_STAFF_TOKEN"
T = TypeVar("T")

TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token",
        metavar="FILE",
        help=f"Act as the staff of this token; - reads it, and ${VARIABLE} has it, too. Without "
        "one you act as who runs the node.",
    ),
]


def acting(
    config: Path | None,
    token: Path | None,
    step: Callable[[Archive, Staff, datetime], Awaitable[T]],
) -> T:
    """What `step` gives, for this staff; failures are told, and are exit codes 1 and 2."""
    with opened(config) as archive:
        now = datetime.now(UTC)
        staff = _staff(archive, token, now)
        return asked(archive, lambda archive: step(archive, staff, now))


def _staff(archive: Archive, path: Path | None, now: datetime) -> Staff:
    """Raises ConfigError, TokenRefused."""
    token = os.environ.get(VARIABLE, "") if path is None else _read(path)
    if token or path is not None:
        return archive.staff_tokens().admit(token.strip(), now)
    policy = Policy.of(archive.config)
    return on_this_node(host_actor().name, policy, now + timedelta(hours=1))


def _read(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no token"
        raise ConfigError(str(path), [f"cannot be read: {why}"]) from None


def moment(text: str | None, option: str) -> datetime | None:
    """A time with its zone, or without one UTC, or "2h", "30m", "3d" from now on, or with a minus
    ago. Raises ConfigError."""
    if text is None:
        return None
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
    mistake = f"{option}: {text!r} is no time such as 2026-11-26T14:00Z, 2h or -3d"
    unit = {"m": "minutes", "h": "hours", "d": "days"}.get(rest[-1:])
    if unit is not None and rest[:-1].isdecimal() and len(rest) <= 5:
        return datetime.now(UTC) + timedelta(**{unit: sign * int(rest[:-1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("relay", [mistake]) from None
    if not 2000 <= found.year < 3000:  # calendars end somewhere
        raise ConfigError("relay", [mistake])
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

"""Whose data it is that is erased, or held; and ids of what is done about it."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Annotated, NoReturn

import typer

from relay.commands.shared import MISTAKEN, stderr
from relay.residency.audit import without_personal

EXIT_CODES = "\n\nExit codes:  0 done  ·  1 failed  ·  2 a mistake in the input"

NumberOption = Annotated[
    str | None, typer.Option("--number", metavar="+NUMBER", help="A telephone number.")
]
IdentityOption = Annotated[
    str | None, typer.Option("--identity", help="A voice client's identity, with --account.")
]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The name of an account or a trunk.")
]
_NUMBER = re.compile(r"\+[1-9][0-9]{4,14}")


def checked_number(number: str) -> str:
    if not _NUMBER.fullmatch(number):
        mistake("--number is written in full, as +35315550111")
    return number


def named_well(option: str, text: str) -> None:
    """What is kept in clear, and on certificates, names nobody."""
    if without_personal(text) != text or re.search(r"\d{7}", text):
        mistake(f"{option} is kept in clear: leave numbers and addresses out")


def mistake(text: str) -> NoReturn:
    stderr().print(text)
    raise typer.Exit(MISTAKEN)


def new_id(kind: str, now: datetime) -> str:
    return f"{kind}-{now:%Y%m%d}-{secrets.token_hex(4)}"

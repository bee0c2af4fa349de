"""Structured logs: one line an event, on standard error, without personal data.

Numbers are masked wherever they appear, in every value of an event at info and above;
what may be a SIP message or another body is replaced by its size. At debug nothing is
masked: that level is for a test system.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from relay.config import Log

MASK = "****"
MAX_TEXT = 512  # characters of one value
# Values of these keys name a person: a number in any notation, or a user's name.
PERSONAL_KEYS = frozenset(
    (
        "number",
        "caller",
        "callee",
        "user",
        "from_",
        "from_user",
        "to_user",
        "display",
        "caller_number",
        "callee_number",
        "caller_name",
        "callee_name",
        "dialled",
        "identity",
        "diversion",
    )
)
# Values of these keys are made by the relay itself: digits in them are no number.
OUR_KEYS = frozenset(("call", "level", "timestamp"))
# Values of these keys have many lines.
TRACE_KEYS = frozenset(("exception", "stack"))

_SUSPECT = re.compile(r"\d\D{0,2}\d\D{0,2}\d|@|tel:", re.IGNORECASE)
_PLUS = re.compile(r"\+\d(?:[-.() ]?\d){6,17}")
_USER = re.compile(r"\b(sips?:|tel:)([^@\s<>;\"']+)(?=@)|\btel:(\+?[\d.()-]{3,})", re.IGNORECASE)
_LONG = re.compile(r"(?<![\w.:+/-])\d{7,15}(?![\w.:/-])")


def mask_number(number: str) -> str:
    """`+353155501234` → `+35315****34`: enough to recognise, too little to call.

    At least five digits stay hidden; of a short number or a name hardly anything is left.
    """
    digits = re.sub(r"\D", "", number)
    if len(digits) < 7:
        return f"{number[:1]}{MASK}" if number else ""
    plus = "+" if number.lstrip().startswith("+") else ""
    return f"{plus}{digits[: min(5, len(digits) - 7)]}{MASK}{digits[-2:]}"


def mask_text(text: str) -> str:
    """Text with every number and SIP user in it masked."""
    if _SUSPECT.search(text) is None:
        return text  # nearly every value: no three digits, no URI
    text = _USER.sub(_masked_user, text)
    text = _PLUS.sub(lambda match: mask_number(match[0]), text)
    return _LONG.sub(lambda match: mask_number(match[0]), text)


def mask_event(_: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The structlog processor; it comes last but for the renderer."""
    if method == "debug":
        return event
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def configure(log: Log, stream: TextIO | None = None) -> None:
    """Set up structlog for the process; `stream` is standard error unless given."""
    out = stream if stream is not None else sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
        mask_event,
    ]
    renderer: Any
    if log.format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), pad_event_to=24, sort_keys=False
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[log.level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


_NUMERIC = (int, float)
_BINARY = (bytes, bytearray, memoryview)
_MANY = (list, tuple, set, frozenset)


def _clean(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return _clean_text(key, value)
    if value is None or isinstance(value, _NUMERIC):
        return mask_number(str(value)) if key in PERSONAL_KEYS and value else value
    if isinstance(value, _BINARY):
        return f"<{len(value)} octets>"
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), item) for name, item in value.items()}
    if isinstance(value, _MANY):
        return [_clean(key, item) for item in value]
    return _clean_text(key, str(value))


def _clean_text(key: str, value: str) -> str:
    if key in PERSONAL_KEYS:
        return mask_number(value)
    if key in TRACE_KEYS:
        return mask_text(value)
    if ("\n" in value or "\r" in value) and len(value.strip().splitlines()) > 1:
        return f"<{len(value)} characters>"  # a SIP message or body: never part of an event
    if key in OUR_KEYS:
        return value[:MAX_TEXT]
    return mask_text(value[:MAX_TEXT])


def _masked_user(match: re.Match[str]) -> str:
    if match[3] is not None:
        return f"tel:{mask_number(match[3])}"
    return f"{match[1]}{mask_number(match[2])}"

"""Structured logs: one line an event, on standard error, without personal data.

Numbers are masked wherever they appear, in every value of an event at info and above;
what may be a SIP message or another body is replaced by its size. At debug nothing is
masked: that level is for a test system.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.processors import format_exc_info

if TYPE_CHECKING:
    from relay.config import Log

MASK = "****"
MAX_TEXT = 512  # characters of one value
SHORT_TEXT = 64  # up to here the masked form of a value is remembered
JOURNAL_S = 0.1  # how long a line of a call may wait for others
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


def iso(when: float) -> str:
    """Seconds since 1970 as UTC in ISO 8601."""
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Event:
    """The structlog processor of every line: level and time are added, the rest is masked.

    One step instead of one per task: a line costs a tenth of what a call's SIP costs.
    """

    def __call__(
        self, _: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if "exc_info" in event or "stack_info" in event:
            event = format_exc_info(None, method, event)
        if method != "debug":
            for key, value in event.items():
                if type(value) not in _PLAIN or key in PERSONAL_KEYS:
                    event[key] = _clean(key, value)
        event["level"] = method
        if "timestamp" not in event:
            event["timestamp"] = iso(time.time())
        return event


class JsonLine:
    """The event as one line of JSON."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(default=repr).encode  # made once, not per line

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return self._encode(event)


def configure(log: Log, stream: TextIO | None = None) -> None:
    """Set up structlog for the process; `stream` is standard error unless given."""
    out = stream if stream is not None else sys.stderr
    renderer: Any = JsonLine()
    if log.format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), pad_event_to=24, sort_keys=False
        )
    structlog.configure(
        processors=[Event(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[log.level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


_PLAIN = frozenset((int, float, bool, type(None)))  # nothing of a person, but by its key
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
        return {
            str(name): item
            if type(item) in _PLAIN and name not in PERSONAL_KEYS
            else _clean(str(name), item)
            for name, item in value.items()
        }
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
    return _short(value) if len(value) <= SHORT_TEXT else mask_text(value[:MAX_TEXT])


# Most values are of a few: names of trunks, causes, codecs.
_short = lru_cache(maxsize=1024)(mask_text)


def _masked_user(match: re.Match[str]) -> str:
    if match[3] is not None:
        return f"tel:{mask_number(match[3])}"
    return f"{match[1]}{mask_number(match[2])}"


class Journal:
    """Events of calls as log lines; the call id is on each.

    Lines are written together, up to `JOURNAL_S` after their event, whose time they bear:
    between two SIP messages the code that writes one has left the caches, and a line would
    cost four times as much.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._log = structlog.get_logger().bind()  # bound once: a lazy logger costs each line
        self._call_later = call_later
        self._events: list[tuple[str, float, dict[str, object]]] = []

    def event(self, name: str, call: str, **fields: object) -> None:
        if not self._events:
            self._call_later(JOURNAL_S, self.flush)
        self._events.append((name, time.time(), {"call": call, **fields}))

    def flush(self) -> None:
        """Write what has been kept back."""
        events, self._events = self._events, []
        for name, when, fields in events:
            self._log.info(name, **fields, timestamp=iso(when))

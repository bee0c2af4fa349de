"""A call as who may read it sees it: all that is kept, as JSON can hold it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from relay.access.grant import Grant
from relay.residency.record import CallRecord


def personal(call: CallRecord) -> dict[str, Any]:
    """Everything that is known of a call."""
    return {name: _plain(value) for name, value in asdict(call).items()}


def grant(found: Grant) -> dict[str, Any]:
    """A grant, which is of nobody but those who asked for it and decided on it."""
    shown = {name: _plain(value) for name, value in asdict(found).items()}
    shown["state"] = found.state.value
    shown["scope"]["records"] = sorted(found.scope.records)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value

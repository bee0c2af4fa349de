"""What can be told of a key: everything but the key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class KeyState(Enum):
    """The primary key is used for what is new, an enabled one still for what is old, a retired
    one for nothing until it is restored, a destroyed one never again."""

    PRIMARY = "primary"
    ENABLED = "enabled"
    RETIRED = "retired"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Key:
    """`id` names it everywhere; `purpose` is what it is for, and its file."""

    id: str
    purpose: str
    state: KeyState

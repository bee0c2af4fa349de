"""The header fields of a message: an ordered list of raw values (RFC 3261 section 7.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay.sip.headers import split_list
from relay.sip.names import CANONICAL, LISTS, canonical


class Headers:
    """Ordered header fields as (canonical name, raw value); names match in any case.

    A name unknown to RFC 3261 and its extensions keeps the spelling it came with.
    `raw` is to be read only; `typed` holds what typed getters have parsed, by name, until the
    field changes.
    """

    __slots__ = ("raw", "typed")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self.raw = [(canonical(name), value) for name, value in fields]
        self.typed: dict[str, Any] = {}

    @staticmethod
    def of_canonical(fields: list[tuple[str, str]]) -> Headers:
        """Takes over a list whose names are canonical already (the parser's way in)."""
        headers = Headers.__new__(Headers)
        headers.raw = fields
        headers.typed = {}
        return headers

    def get(self, name: str) -> str | None:
        """The raw value of the first field of that name, comma lists not split."""
        for field, value in self.raw:
            if field == name:
                return value
        known = CANONICAL.get(name) or CANONICAL.get(name.lower())
        if known == name:
            return None
        key = (known or name).lower()
        return next((value for field, value in self.raw if field.lower() == key), None)

    def fields(self, name: str) -> list[str]:
        """The raw value of each field of that name, comma lists not split."""
        known = CANONICAL.get(name) or CANONICAL.get(name.lower())
        if known is not None:
            return [value for field, value in self.raw if field == known]
        return [value for field, value in self.raw if field.lower() == name.lower()]

    def all(self, name: str) -> list[str]:
        """Each value of that name; comma lists of list headers are split."""
        values = self.fields(name)
        if not values or (len(values) == 1 and "," not in values[0]):
            return values
        if canonical(name) not in LISTS:
            return values
        return [item for value in values for item in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Append a field."""
        name = canonical(name)
        self.raw.append((name, value))
        self.typed.pop(name, None)

    def prepend(self, name: str, value: str) -> None:
        """Put a field before all others (Via, Record-Route)."""
        name = canonical(name)
        self.raw.insert(0, (name, value))
        self.typed.pop(name, None)

    def set(self, name: str, value: str) -> None:
        """Replace the first field of that name, drop the others, append when absent."""
        name = canonical(name)
        self.typed.pop(name, None)
        key = name.lower()
        kept: list[tuple[str, str]] = []
        done = False
        for field in self.raw:
            if field[0] != name and field[0].lower() != key:
                kept.append(field)
            elif not done:
                kept.append((name, value))
                done = True
        if not done:
            kept.append((name, value))
        self.raw = kept

    def replace_first(self, name: str, value: str) -> None:
        """Replace only the first field of that name, leaving further ones."""
        name = canonical(name)
        self.typed.pop(name, None)
        for index, field in enumerate(self.raw):
            if field[0] == name:
                self.raw[index] = (name, value)
                return
        self.raw.append((name, value))

    def remove(self, name: str) -> None:
        """Drop every field of that name; absent is fine."""
        name = canonical(name)
        self.typed.pop(name, None)
        key = name.lower()
        self.raw = [field for field in self.raw if field[0].lower() != key]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]  # mutable

    def names(self) -> list[str]:
        """The canonical name of each field in order."""
        return [field[0] for field in self.raw]

    def items(self) -> list[tuple[str, str]]:
        """(canonical name, raw value) in order. The list is a copy."""
        return list(self.raw)

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers.of_canonical(list(self.raw))

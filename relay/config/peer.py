"""What a trunk and an account have in common: each is one side of a call."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from relay.config.values import Count, Name, Rate, RecordingMode, Seconds, Section, Switch


class NumberRule(Section):
    """A called or calling number that matches as a whole is replaced (`\\1` is a group)."""

    match: str
    replace: str

    @field_validator("match")
    @classmethod
    def _check_match(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _check_replace(self) -> NumberRule:
        try:
            re.compile(self.match).sub(self.replace, "")  # reads the template, matches or not
        except (re.error, IndexError) as error:
            raise ValueError(f"replace {self.replace!r} does not fit match: {error}") from None
        return self


class Peer(Section):
    """Who calls and is called. Routes, limits and legs know it by its name."""

    name: Name
    # What happens in its calls.
    recording: RecordingMode = "do-not-record"
    # A call that is to be recorded and cannot be is refused; otherwise it goes on without.
    recording_required: Switch = False
    # A public key of the customer's (Tink, HPKE): who holds its private half plays them back,
    # the region does not.
    recording_key: str | None = None
    trim_silence: Switch = False
    retention_days: Annotated[float | None, Field(strict=True, gt=0, le=36500)] = None
    prack: Literal["off", "supported", "required"] = "supported"
    session_expires_s: Annotated[int, Field(strict=True, ge=0, le=86400)] = 1800
    transfer: Literal["disable-all", "enable-all", "sip-only"] = "disable-all"
    # Numbers.
    country: Annotated[str | None, Field(pattern=r"^[A-Z]{2}$")] = None
    number_rules: tuple[NumberRule, ...] = ()
    # How much.
    calls_per_second: Rate = 10.0
    concurrent_calls: Count = 100
    call_duration_s: Seconds | None = None

    @field_validator("country")
    @classmethod
    def _check_country(cls, value: str | None) -> str | None:
        import phonenumbers  # 50 ms, which most configurations need not wait for

        if value is not None and value not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"{value!r} is not the two-letter code of a country")
        return value

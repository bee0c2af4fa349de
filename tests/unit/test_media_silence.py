"""Why is there no audio? One sentence per leg."""

from __future__ import annotations

from typing import Any

import pytest

from relay import _native
from relay.media.silence import reason_for_silence

QUIET: dict[str, Any] = {
    "described": True,
    "may_send": True,
    "last_drop": None,
    "dropped_since_s": None,
    "relayed_since_s": None,
    "expected_source": ("192.0.2.1", 4000),
    "stranger": None,
    "secured": False,
    "keyed": False,
}


def reason(**more: Any) -> str | None:
    return reason_for_silence(QUIET | more)


def test_no_reason_while_audio_flows() -> None:
    assert reason(relayed_since_s=0.02, last_drop="wrong_source", dropped_since_s=0.01) is None


def test_nothing_received_ever_or_since() -> None:
    assert reason() == "Nothing was received."
    assert reason(relayed_since_s=7.2) == "Nothing was received for 7 s."


def test_on_hold_and_not_described() -> None:
    assert reason(may_send=False) == "This leg is on hold."
    assert reason(described=False) == "No media description was applied to this leg."


def test_the_wrong_source_names_both_addresses() -> None:
    said = reason(last_drop="wrong_source", dropped_since_s=0.1, stranger=("2001:db8::1", 5))
    assert said is not None
    assert "[2001:db8::1]:5" in said
    assert "192.0.2.1:4000" in said


def test_a_voice_client_says_how_far_it_came() -> None:
    assert "path" in (reason(secured=True, expected_source=None) or "")
    assert "DTLS" in (reason(secured=True) or "")
    assert reason(secured=True, keyed=True) == "Nothing was received."


def test_an_old_drop_is_no_reason() -> None:
    said = reason(last_drop="wrong_source", dropped_since_s=9.0, relayed_since_s=4.0)
    assert said == "Nothing was received for 4 s."


@pytest.mark.parametrize("name", _native.DROP_NAMES[1:])
def test_every_drop_of_rtp_has_a_sentence(name: str) -> None:
    said = reason(last_drop=name, dropped_since_s=0.1)
    assert said is not None
    assert said.endswith(".")
    assert said != "Nothing was received."

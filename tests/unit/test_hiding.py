"""What a peer wrote in its own words, as the other leg may have it."""

from __future__ import annotations

import time

import pytest

from relay.call.hiding import LONGEST, header, without_addresses


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Busy Here", "Busy Here"),
        ("No circuit/channel available (34)", "No circuit/channel available (34)"),
        ("sent to 192.0.2.3:5060", "sent to ..."),
        ("via [2001:db8::1]:5060 twice", "via ... twice"),
        ("ann@pbx is busy", "... is busy"),
        ("in_uri=sip:1@x;q=1 out", "... out"),
        ("pbx1.acme.example refused", "... refused"),
    ],
)
def test_addresses_become_an_ellipsis(text: str, told: str) -> None:
    assert without_addresses(text) == told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("Warning", '399 192.0.2.3:5060 "no codec"', '399 relay "no codec"'),
        ("Warning", '370 pbx "to 192.0.2.3"', '370 relay "to ..."'),
        ("Warning", "no warning", ""),
        ("Reason", 'Q.850 ;cause=16 ;text="bye"', 'Q.850;cause=16;text="bye"'),
        ("Reason", "SIP;cause=200", "SIP;cause=200"),
        ("Reason", 'SIP;text="at 192.0.2.3";cause=486;x=192.0.2.3', 'SIP;cause=486;text="at ..."'),
        ("Reason", "192.0.2.3", ""),
        ("Retry-After", "30 (ask 192.0.2.3);duration=60", "30"),
        ("Retry-After", "soon", ""),
    ],
)
def test_a_header_is_written_anew(name: str, value: str, told: str) -> None:
    assert header(name, value) == told


@pytest.mark.parametrize("piece", ["a", "a.", "1.", "a:", '\\"', "sip"])
def test_long_text_costs_no_more_than_short(piece: str) -> None:
    """A datagram full of it must not hold up the calls of the others."""
    text = piece * (60_000 // len(piece))
    start = time.process_time()
    assert len(without_addresses(text)) <= LONGEST
    for name in ("Warning", "Reason", "Retry-After"):
        header(name, f'399 x "{text}')
        header(name, f'SIP;cause=486;text="{text}')
    assert time.process_time() - start < 0.1

"""Parts of the client SDK that need neither a network nor a clock."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys

import pytest

from relay.client.description import Codec, Description, Ice, answered, offered, read, write
from relay.client.errors import BadToken, Refused, TokenExpired, refusal
from relay.client.feed import MOST, Feed
from relay.client.keypad import Keypad
from relay.client.media import common
from relay.client.token import claims
from relay.errors import NotAcceptable
from relay.rtp.dtmf import KEYS, KeyPresses
from relay.rtp.packet import build, parse
from relay.sip.fields import Headers
from relay.sip.message import Response

ICE = Ice("abcd", "a-password-of-22-octets")
PRINT = (("sha-256", "AA:BB"),)


def jwt(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


def test_the_claims_of_a_token_are_read_and_never_shown() -> None:
    found = claims(jwt({"iss": "app", "sub": "alice", "region": "ie1", "exp": 5}))
    assert (found.account, found.identity, found.region, found.expires_at) == (
        "app",
        "alice",
        "ie1",
        5.0,
    )
    with pytest.raises(BadToken, match="no claim 'exp'"):
        claims(jwt({"iss": "app", "sub": "alice"}))
    for bad in ("", "secret", "a.b.c", "a.b", jwt([1]), jwt({"iss": 1, "sub": 2, "exp": "x"})):
        with pytest.raises(BadToken) as error:
            claims(bad)
        assert not bad or bad not in str(error.value)


@pytest.mark.parametrize("clock_hz", [8000, 48000])
def test_keys_take_the_place_of_voice_packets(clock_hz: int) -> None:
    """RFC 4733: one timestamp a press, a rising duration, three ends; no sequence number lost."""

    async def run() -> None:
        keypad = Keypad(101, clock_hz)
        done = keypad.press("5#", 80)
        heard = KeyPresses()
        found: list[tuple[str, float]] = []
        step = clock_hz // 50
        for n in range(40):
            voice = build(0, 65530 + n & 0xFFFF, 1000 + n * step, 7, b"v" * 160)
            packet = parse(keypad.passing(voice))
            assert packet.sequence == 65530 + n & 0xFFFF
            if packet.payload_type == 0:
                assert packet.payload == b"v" * 160
                continue
            presses = heard.feed(7, packet.timestamp, packet.payload, n * 20_000_000)
            found += [(KEYS[press.event], press.ticks / clock_hz) for press in presses]
        assert found == [("5", 0.08), ("#", 0.08)]
        assert done.done()

    asyncio.run(run())


def test_a_key_keeps_the_header_extensions_of_its_packet() -> None:
    async def run() -> None:
        keypad = Keypad(101, 8000)
        keypad.press("1", 40)
        extended = b"\x90\x00" + bytes(10) + b"\xbe\xde\x00\x01" + b"\x10\x41\x00\x00" + b"voice"
        sent = keypad.passing(extended)
        assert sent[12:20] == extended[12:20]
        assert parse(sent).payload == bytes((1, 10)) + (160).to_bytes(2, "big")

    asyncio.run(run())


def test_an_answer_keeps_numbers_and_place_of_the_offer() -> None:
    offer = (
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a\r\n"
        b"a=fingerprint:SHA-256 AA:BB\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=ice-lite\r\n"
        b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n"
        b"m=audio 9 UDP/TLS/RTP/SAVPF 8 96 97 0\r\na=mid:a\r\na=rtcp-mux\r\na=setup:actpass\r\n"
        b"a=rtpmap:96 OPUS/48000/2\r\na=rtpmap:97 telephone-event/8000\r\na=sendonly\r\n"
        b"a=candidate:1 1 udp 1 127.0.0.1 4000 typ host\r\na=candidate:x\r\n"
    )
    theirs = read(offer)
    assert theirs.codecs == {8: Codec.PCMA, 96: Codec.OPUS, 0: Codec.PCMU}
    assert theirs.keys == {8000: 97}
    assert theirs.ice.lite
    assert [c.port for c in theirs.ice.candidates] == [4000]
    assert (theirs.mid, theirs.direction, theirs.fingerprints) == ("a", "sendonly", PRINT)
    kept = answered(theirs, (Codec.PCMU, Codec.OPUS))
    assert list(kept.items()) == [(96, Codec.OPUS), (0, Codec.PCMU)]
    answer = write(
        Description(kept, {}, ICE, PRINT, "active", "recvonly", "a"), 5, (1, 1), offer
    ).decode()
    video, audio = answer.index("m=video 0 "), answer.index("m=audio 9 UDP/TLS/RTP/SAVPF 96 0\r\n")
    assert video < audio
    assert "a=group:BUNDLE a\r\n" in answer
    with pytest.raises(NotAcceptable, match="no common codec"):
        answered(theirs, ())


def test_an_offer_is_read_back_as_it_was_meant() -> None:
    codecs, keys = offered((Codec.OPUS, Codec.PCMU))
    ours = Description(codecs, keys, ICE, PRINT, "actpass")
    assert read(write(ours, 5, (1, 2))) == ours


@pytest.mark.parametrize("missing", ["a=ice-ufrag", "a=fingerprint", "a=rtcp-mux", "m=audio"])
def test_what_a_description_needs(missing: str) -> None:
    codecs, keys = offered((Codec.PCMU,))
    body = write(Description(codecs, keys, ICE, PRINT, "actpass"), 5, (1, 2))
    lines = [line for line in body.decode().splitlines() if not line.startswith(missing)]
    with pytest.raises(NotAcceptable):
        read("\r\n".join([*lines[:5], *([] if missing == "m=audio" else lines[5:])]).encode())


def test_directions_meet_in_the_middle() -> None:
    assert common("sendrecv", "sendonly") == "sendonly"
    assert common("recvonly", "sendonly") == "inactive"
    assert common("sendrecv", "sendrecv") == "sendrecv"
    assert common("recvonly", "sendrecv") == "recvonly"
    assert common("inactive", "sendrecv") == "inactive"


def test_refusals_carry_the_relays_words() -> None:
    fields = [("Warning", '399 relay "no credit, \\"sorry\\""')]
    refused = refusal(Response(403, None, Headers(fields)))
    assert type(refused) is Refused
    assert str(refused) == '403 Forbidden: no credit, "sorry"'
    fields = [("WWW-Authenticate", 'Bearer realm="x", error_description="token has expired"')]
    assert isinstance(refusal(Response(401, None, Headers(fields))), TokenExpired)


def test_a_feed_keeps_what_happened_before_anybody_listened() -> None:
    async def run() -> None:
        feed: Feed[int] = Feed()
        for number in range(MOST + 1):
            feed.publish(number)
        first = feed.listen()
        second = feed.listen()
        feed.publish(-1)
        feed.end()
        assert [event async for event in first] == [*range(2, MOST + 1), -1][-MOST:]
        assert [event async for event in second] == [-1]
        assert [event async for event in feed.listen()] == []

    asyncio.run(run())


def test_the_sdk_loads_nothing_of_the_server() -> None:
    """Nor what only the server needs: it is for programs that have neither engine nor region."""
    script = """
import sys
import relay.client
server = {"relay._native", "relay.config", "relay.call", "relay.signalling", "pydantic", "fastapi"}
server |= {"structlog", "uvloop", "typer", "numpy", "jwt", "phonenumbers"}
print(sorted(server & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

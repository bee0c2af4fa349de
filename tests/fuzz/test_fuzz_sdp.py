"""Whatever a body holds, it is refused with MalformedSdp or NotAcceptable, or carried.

Bounded by RELAY_FUZZ_SECONDS (default 5 s for the whole file). A failure prints its body.
"""

from __future__ import annotations

import os
import random
import time
from base64 import b64encode

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MalformedSdp, NoCommonCodec, NotAcceptable
from relay.sdp.coding import Transcoding, extended, match
from relay.sdp.crypto import Srtp, parse_crypto
from relay.sdp.description import SUITES, Fingerprint, MediaAddress
from relay.sdp.dtls import Dtls
from relay.sdp.keying import Keying, Terms
from relay.sdp.negotiation import (
    BROWSERS,
    Offer,
    Origin,
    check_answer,
    check_offer,
    leg_media,
    relay_answer,
    relay_offer,
)
from relay.sdp.sdes import Sdes
from relay.sdp.session import Session, Stream
from tests.unit.browsers import BROWSERS as WRITERS
from tests.unit.browsers import DATA, VIDEO, describe

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
MODES = ("off", "optional", "required", "dtls")
FINGERPRINT = Fingerprint("sha-256", bytes(range(32)))
LOCALS = (MediaAddress("198.51.100.7", 20000, 20001), MediaAddress("2001:db8::7", 20002, 20002))
ORIGIN = Origin(1, 1)

CRYPTO = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b64encode(bytes(range(30)))
SEEDS = [
    b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n",
    b"v=0\no=a 1 1 IN IP6 2001:db8::1\ns=-\nb=AS:64\nt=0 0\nm=audio 4000/2 RTP/AVPF 96\n"
    b"c=IN IP6 2001:db8::1\na=rtpmap:96 opus/48000/2\na=rtcp-mux\na=rtcp:4001 IN IP4 1.2.3.4\n",
    b"v=0\r\no=a 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=inactive\r\n"
    b"m=video 4 RTP/AVP 99\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\nm=image 9 udptl t38\r\n",
    b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/SAVP 0 8\r\n" + CRYPTO + b"\r\n",
    b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8\r\n" + CRYPTO + b"|2^20|1:4 KDR=0 WSH=64\r\n",
    *map(describe, WRITERS),
    describe(setup="active"),
    describe("firefox", setup="passive", more=(*VIDEO, *DATA), group="0 1 2"),
]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"\xc3", b" ", b"\t", b"=", b"/", b":", b"-1", b"0",
    b"9" * 50, b"65535", b"65536", "٣".encode(), "\u2028".encode(), b"\x85", b"\x1c", b"%1", b"[",
    b"m=audio 1 RTP/AVP 0\r\n", b"m=", b"c=IN IP4 ", b"c=IN IP6 fe80::1%eth0\r\n", b"c=\r\n",
    b"a=rtcp:", b"a=rtcp-mux\r\n", b"a=rtpmap:", b"a=sendrecv\r\n", b"a=inactive\r\n", b"v=0\r\n",
    b"o=", b"0.0.0.0", b"::", b"224.0.0.1", b"host.example", b"a=rtpmap:0 telephone-event/8000\r\n",
    b"UDP/TLS/RTP/SAVPF", b"a=mid:", b"a=group:BUNDLE ", b"a=setup:passive\r\n",
    b"a=ssrc:1 msid:x\r\n", b"a=fingerprint:sha-512 ", b"a=ice-ufrag:", b"a=ice-lite\r\n",
    CRYPTO, b"a=crypto:", b"inline:", b"|", b"2^20", b"1:4", b";", b"UNENCRYPTED_SRTP", b" KDR=1",
    b"AEAD_AES_256_GCM", b"RTP/SAVP", b"RTP/SAVPF", b"a=acap:1 crypto:1 X inline:", b"2",
]  # fmt: skip


def keying(mode: str) -> Keying:
    return Dtls(FINGERPRINT) if mode == "dtls" else Sdes(Srtp(mode, tuple(SUITES)))


def _refused_or_carried(body: bytes, answer: bytes, mode: str = "off", other: str = "off") -> bool:
    """Whether the offer was carried. Any other exception is a bug, and passes through."""
    try:
        session = Session.parse(body)
    except MalformedSdp:
        return False
    once = session.encode()
    again = Session.parse(once)
    assert again.encode() == once, "parse and encode are not stable"
    caller = keying(mode)
    try:
        stream = check_offer(session, caller.choose)
    except (MalformedSdp, NotAcceptable):
        return False
    caller.accept()
    for local in LOCALS:
        callee = keying(other)
        terms = callee.offer(local)
        sent = relay_offer(stream, local, ORIGIN, terms)
        _ours(sent, stream, local, terms)
        _answer(stream, answer, local, caller, callee)
    return True


def _ours(sent: Offer, offer: Stream, local: MediaAddress, terms: Terms) -> None:
    """What leaves is sound, has our address, port and keys, and as many streams as it had."""
    session = Session.parse(sent.body)
    stream = Stream(session, sent.position)
    assert stream.section.is_voice
    assert stream.section.dtls == terms.dtls
    assert len(session.sections) in (len(offer.session.sections), 1)
    assert [section.port for section in session.sections if section.port] == [local.port]
    lines = sent.body.decode("utf-8", "surrogateescape").split("\r\n")
    secrets = [line for line in lines if line[:2] == "a=" and "inline:" in line.lower()]
    assert secrets == [line for line in terms.lines if "inline:" in line]
    for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "candidate"):
        assert sum(line.startswith(f"a={name}:") for line in lines) == terms.dtls
    if terms.dtls:
        assert not [
            line for line in lines if line.startswith(BROWSERS) and "msid:voice" not in line
        ]
    else:
        media = leg_media(stream, offer, False)
        assert media.remote is not None and media.remote.host == local.host


def _answer(
    offer: Stream, body: bytes, local: MediaAddress, caller: Keying, callee: Keying
) -> None:
    told = relay_offer(extended(offer, {}), local, ORIGIN, callee.offer(local))
    try:
        answer = check_answer(told.position, Session.parse(body))
        callee.take_answer(answer)
    except (MalformedSdp, NotAcceptable):
        return
    for transcoding in Transcoding:
        try:
            found = match(offer, answer, transcoding)
        except NoCommonCodec:
            continue
        terms = caller.answer(local)
        sent = relay_answer(offer, found.told, local, ORIGIN, terms)
        _ours(sent, offer, local, terms)
        assert set(found.told.section.formats) or transcoding is Transcoding.UNASKED
        leg_media(offer, found.answered, True, caller.agree(), found.offerer)
        leg_media(found.answered, offer, True, callee.agree(), found.answerer)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(mutated) + 1)
        match chance.randrange(4):
            case 0:
                mutated[at:at] = chance.choice(PIECES)
            case 1:
                del mutated[at : at + chance.randrange(1, 30)]
            case 2 if at < len(mutated):
                mutated[at] = chance.randrange(256)
            case _:
                start = chance.randrange(len(mutated) + 1)
                mutated[at:at] = mutated[start : start + chance.randrange(80)]
    return bytes(mutated)


def test_mutated_descriptions() -> None:
    chance = random.Random(SEED)
    until = time.monotonic() + SECONDS * 0.8
    carried = tried = 0
    while time.monotonic() < until or tried < 500:
        body = _mutated(chance.choice(SEEDS), chance)
        answer = _mutated(chance.choice(SEEDS), chance)
        try:
            carried += _refused_or_carried(body, answer, chance.choice(MODES), chance.choice(MODES))
        except Exception as bug:
            raise AssertionError(f"seed {SEED}: offer {body!r} answer {answer!r}") from bug
        tried += 1
    assert carried > tried // 20, "the mutations no longer reach the negotiation"


@settings(max_examples=int(40 * SECONDS), deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(SEEDS) - 1))
def test_binary_bodies_are_refused_or_carried(noise: bytes, seed: int) -> None:
    _refused_or_carried(noise, noise)
    _refused_or_carried(SEEDS[seed] + noise, SEEDS[seed])
    _refused_or_carried(SEEDS[seed], SEEDS[seed] + noise)


@settings(max_examples=int(40 * SECONDS), deadline=None)
@given(st.text("=+/;|:^2019 abYZAES_CMGHKDR\u0663\xff", max_size=120), st.booleans())
def test_a_crypto_line_is_used_or_refused_and_never_repeated(noise: str, whole: bool) -> None:
    """A text about it holds nothing of what stood in the place of the key."""
    secret = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    value = f"1 AES_CM_128_HMAC_SHA1_80 inline:{secret}{noise}" if whole else noise
    assert "WVNfX19" not in _problem(value)


def _problem(value: str) -> str:
    try:
        crypto = parse_crypto(value)
    except NotAcceptable as error:
        return str(error)
    return repr(crypto)

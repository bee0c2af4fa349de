"""Whatever a body holds, it is refused with MalformedSdp or NotAcceptable, or carried.

Bounded by RELAY_FUZZ_SECONDS (default 5 s for the whole file). A failure prints its body.
"""

from __future__ import annotations

import os
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MalformedSdp, NotAcceptable
from relay.sdp.description import MediaAddress
from relay.sdp.negotiation import Origin, check_offer, leg_media, relay_answer, relay_offer
from relay.sdp.session import Session

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
LOCALS = (MediaAddress("198.51.100.7", 20000, 20001), MediaAddress("2001:db8::7", 20002, 20002))
ORIGIN = Origin(1, 1)

SEEDS = [
    b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n",
    b"v=0\no=a 1 1 IN IP6 2001:db8::1\ns=-\nb=AS:64\nt=0 0\nm=audio 4000/2 RTP/AVPF 96\n"
    b"c=IN IP6 2001:db8::1\na=rtpmap:96 opus/48000/2\na=rtcp-mux\na=rtcp:4001 IN IP4 1.2.3.4\n",
    b"v=0\r\no=a 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=inactive\r\n"
    b"m=video 4 RTP/AVP 99\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\nm=image 9 udptl t38\r\n",
]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"\xc3", b" ", b"\t", b"=", b"/", b":", b"-1", b"0",
    b"9" * 50, b"65535", b"65536", "٣".encode(), "\u2028".encode(), b"\x85", b"\x1c", b"%1", b"[",
    b"m=audio 1 RTP/AVP 0\r\n", b"m=", b"c=IN IP4 ", b"c=IN IP6 fe80::1%eth0\r\n", b"c=\r\n",
    b"a=rtcp:", b"a=rtcp-mux\r\n", b"a=rtpmap:", b"a=sendrecv\r\n", b"a=inactive\r\n", b"v=0\r\n",
    b"o=", b"0.0.0.0", b"::", b"224.0.0.1", b"host.example", b"a=rtpmap:0 telephone-event/8000\r\n",
]  # fmt: skip


def _refused_or_carried(body: bytes, answer: bytes) -> bool:
    """Whether the offer was carried. Any other exception is a bug, and passes through."""
    try:
        session = Session.parse(body)
    except MalformedSdp:
        return False
    once = session.encode()
    again = Session.parse(once)
    assert again.encode() == once, "parse and encode are not stable"
    assert again.voice() == session.voice()
    try:
        check_offer(session)
    except (MalformedSdp, NotAcceptable):
        return False
    for local in LOCALS:
        sent = relay_offer(session, local, ORIGIN)
        _ours(sent, session, local)
        _answer(session, answer, local)
    return True


def _ours(sent: bytes, offer: Session, local: MediaAddress) -> None:
    """What leaves is sound, has our address and port, and as many streams as it had."""
    session = Session.parse(sent)
    check_offer(session)
    assert len(session.sections) == len(offer.sections)
    open_sections = [section for section in session.sections if section.port]
    assert [section.port for section in open_sections] == [local.port]
    media = leg_media(session, offer, False)
    assert media.remote is not None and media.remote.host == local.host


def _answer(offer: Session, body: bytes, local: MediaAddress) -> None:
    try:
        answer = Session.parse(body)
        sent = relay_answer(offer, answer, local, ORIGIN)
    except (MalformedSdp, NotAcceptable):
        return
    _ours(sent, offer, local)
    leg_media(offer, answer, True)


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
            carried += _refused_or_carried(body, answer)
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

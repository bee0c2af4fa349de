"""Whole negotiations between peers of any kind that say anything, in any order.

Nothing but a RelayError comes out, each leg is told of itself alone, and what the engine gets
is whole. Bounded by RELAY_FUZZ_SECONDS; a failure prints what was said.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from relay.call.end import End
from relay.call.ports import Side
from relay.errors import RelayError
from relay.sdp.crypto import OFF, Srtp
from relay.sdp.session import Session
from tests.fuzz.test_fuzz_sdp import SEED, _mutated
from tests.unit.browsers import (
    BROWSERS,
    DATA,
    NEW_PWD,
    NEW_UFRAG,
    OTHER_SHA256,
    PWD,
    SHA256,
    UFRAG,
    VIDEO,
    describe,
)
from tests.unit.test_negotiation import K1, K2, REQUIRED, crypto, sdp
from tests.unit.test_sdp_dtls import DTLS, Pair, party

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
KINDS = (OFF, REQUIRED, DTLS)
SECRETS = (K1, K2, PWD, NEW_PWD, SHA256, OTHER_SHA256, f"ufrag:{UFRAG}", f"ufrag:{NEW_UFRAG}")
STEPS = ("close", "reaffirm", "restarted", "move")
DIRECTIONS = ("sendrecv", "sendrecv", "sendrecv", "sendonly", "recvonly", "inactive")
PROFILES = {"off": "RTP/AVP", "required": "RTP/SAVP", "dtls": "UDP/TLS/RTP/SAVP"}


class Peers:
    """Two sides, what each may say, and what has been said so far."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.kinds = {side: chance.choice(KINDS) for side in Side}
        self.call = Pair(self.kinds[Side.CALLER], self.kinds[Side.CALLEE], chance.random() < 0.7)
        self.lines = dict.fromkeys(Side, 0)
        self.broken = False
        self.said: list[tuple[Any, ...]] = []

    def body(self, side: Side, answers: bool) -> bytes:
        chance, kind = self.chance, self.kinds[side]
        if kind is DTLS:
            text = describe(
                chance.choice(list(BROWSERS)),
                chance.choice(("active", "passive")) if answers else "actpass",
                chance.choice(((UFRAG, PWD), (NEW_UFRAG, NEW_PWD))),
                chance.choice((SHA256, OTHER_SHA256)),
                chance.choice(("", "", "111 110", "0 126", "109", "0 9 8")),
                chance.choice(DIRECTIONS),
                chance.choice(((), (), VIDEO, (*VIDEO, *DATA))),
            )
        else:
            profile = "RTP/SAVP" if kind is REQUIRED else "RTP/AVP"
            formats = chance.choice(("0 8 101", "0", "8 101", "96 97", "18"))
            lines = ["a=rtpmap:101 telephone-event/8000", "a=rtpmap:96 opus/48000/2"]
            lines.append(f"a={chance.choice(DIRECTIONS)}")
            if kind is REQUIRED:
                lines.append(crypto(chance.choice((K1, K2))))
            text = sdp(f"m=audio 5000 {profile} {formats}", *lines)
        if chance.random() < 0.15:
            self.broken = True
            return _mutated(text, chance)
        return text

    def step(self) -> bool:
        """One thing that happens. Returns whether it was carried."""
        chance, negotiation = self.chance, self.call.negotiation
        side = chance.choice(list(Side))
        what = chance.choice(
            ("offer", "answer", "answer", "close", "reaffirm", "restarted", "move")
        )
        body = self.body(side, what in ("answer", "reaffirm"))
        self.said.append((what, side, body))
        media = self.call.media
        counts = {each: len(media.updates[each]) for each in Side}
        told = {each: negotiation.current(each) for each in Side}
        try:
            match what:
                case "offer":
                    self.told(side.other, negotiation.offer(side, body))
                case "answer":
                    self.told(side.other, negotiation.answer(side, body), answer=True)
                case "close":
                    negotiation.close()
                case "reaffirm" if negotiation.agreed and told[side]:
                    negotiation.close()
                    negotiation.reaffirm(side, body)
                case "restarted":
                    if found := negotiation.restarted(side, body):
                        self.told(side, found, answer=True)
                case "move" if negotiation.agreed:
                    negotiation.close()
                    self.move(side)
        except RelayError:
            if what in ("offer", "restarted"):
                assert {each: negotiation.current(each) for each in Side} == told
                assert {each: len(media.updates[each]) for each in Side} == counts
            return False
        self.engine()
        return True

    def move(self, side: Side) -> None:
        """A transfer: another party has this side."""
        negotiation, former = self.call.negotiation, self.kinds[side]
        self.kinds[side] = kind = self.chance.choice(KINDS)
        end: End = negotiation.propose(side, party(kind), 5000)
        lines, self.lines[side] = self.lines[side], 0
        self.told(side, end.body)
        try:
            told = negotiation.take_over(side, end, self.body(side, True))
        except RelayError:
            self.kinds[side], self.lines[side] = former, lines
            raise
        if told:
            self.told(side.other, told)

    def told(self, side: Side, body: bytes, answer: bool = False) -> None:
        """What a side is told is of its own leg: our port, its profile, no one's secrets.

        An offer has at least the m= lines that were there before; an answer has the offer's.
        """
        session = Session.parse(body)
        lines = body.decode("utf-8", "surrogateescape").split("\r\n")
        carried = [section for section in session.sections if section.port]
        assert [section.port for section in carried] == [self.call.media.local(side).port]
        assert carried[0].protocol.startswith(PROFILES[self.kinds[side].mode])
        for name, kind in (("fingerprint", DTLS), ("ice-pwd", DTLS), ("crypto", REQUIRED)):
            found = [line for line in lines if line.startswith(f"a={name}:")]
            assert bool(found) == (self.kinds[side] is kind)
        # A name that a mutation has broken is an unknown attribute, which is passed on.
        assert self.broken or not [secret for secret in SECRETS if secret in "".join(lines)]
        if self.call.negotiation.agreed:
            assert answer or len(session.sections) >= self.lines[side]
            self.lines[side] = len(session.sections)

    def engine(self) -> None:
        """Both legs or none are transcoded; each is secured as its peer is."""
        media = self.call.media
        if not self.call.negotiation.agreed:
            return
        legs = {side: media.last(side) for side in Side}
        assert len({leg.coding is None for leg in legs.values()}) == 1
        for side, leg in legs.items():
            kind: Srtp = self.kinds[side]
            assert (leg.webrtc is not None) == (kind is DTLS)
            assert (leg.srtp is not None) == (kind is REQUIRED)
            assert leg.remote is None or leg.webrtc is None
            if leg.coding is not None:
                assert leg.coding.payload_type in leg.payload_types
                assert {legs[each].coding.codec == "OPUS" for each in Side} == {True, False}


def test_negotiations_of_any_two_kinds() -> None:
    chance = random.Random(SEED)
    until = time.monotonic() + SECONDS
    carried = tried = transcoded = 0
    while time.monotonic() < until or tried < 2000:
        peers = Peers(chance)
        try:
            for _ in range(12):
                carried += peers.step()
                tried += 1
        except Exception as bug:
            raise AssertionError(f"seed {SEED}: {peers.kinds} {peers.said}") from bug
        updates = peers.call.media.updates[Side.CALLER]
        transcoded += any(leg.coding is not None for leg in updates)
    assert carried > tried // 4, "the peers no longer understand each other"
    assert transcoded, "nothing is transcoded any more"

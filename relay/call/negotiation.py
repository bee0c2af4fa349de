"""One call's offer/answer: what each leg is told, and what the engine must do (RFC 3264).

The relay stands between two peers: an offer from one side goes to the other with our
address in it, and so does the answer. At most one offer is open at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom
from typing import NamedTuple

from relay.call.ports import SIDES, CallMedia, LegMedia, Media, Side
from relay.errors import MalformedSdp, NotAcceptable, WrongAnswer
from relay.sdp.crypto import OFF, Srtp
from relay.sdp.dtls import Dtls
from relay.sdp.keying import Keying
from relay.sdp.negotiation import (
    Offer,
    Origin,
    check_answer,
    check_offer,
    leg_media,
    relay_answer,
    relay_offer,
    unheld,
)
from relay.sdp.sdes import Sdes
from relay.sdp.session import Session, Stream
from relay.sdp.way import way

_Build = Callable[[Origin], Offer]


class Party(NamedTuple):
    """How one side's media are carried, as its trunk or account has it."""

    security: Srtp = OFF
    symmetric: bool = False


class Description:
    """What we last sent to one leg, so that its version counts changes (RFC 3264 section 8)."""

    __slots__ = ("said", "session_id", "version")

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.version = 0
        self.said: Offer | None = None

    @property
    def body(self) -> bytes:
        return b"" if self.said is None else self.said.body

    def origin(self) -> Origin:
        return Origin(self.session_id, self.version)

    def build(self, build: _Build) -> Offer:
        """Say something: the version grows when it is not what was said last."""
        said = build(self.origin())
        if self.said is not None and said.body != self.said.body:
            self.version += 1
            said = build(self.origin())
        self.said = said
        return said


class Proposal:
    """What the party that is to take a side over is offered: the other side's media, with
    keys and a description of its own."""

    __slots__ = ("description", "keying", "party", "stream")

    def __init__(self, stream: Stream, keying: Keying, party: Party, session_id: int) -> None:
        self.stream = stream
        self.keying = keying
        self.party = party
        self.description = Description(session_id)

    @property
    def body(self) -> bytes:
        return self.description.body


class Negotiation:
    """The descriptions of both legs and the open offer, if there is one.

    `parties` says per side whether its media are encrypted and how: each leg has keys of its
    own. `holds` tells the addresses that are inside the region: audio goes to no other.
    """

    __slots__ = (
        "_applied",
        "_before",
        "_engine",
        "_holds",
        "_keying",
        "_last",
        "_media",
        "_offer",
        "_offered",
        "_parties",
        "_random",
        "_sent",
        "_streams",
        "on_codec",
    )

    def __init__(
        self,
        media: CallMedia,
        engine: Media,
        parties: Mapping[Side, Party],
        session_id: int,
        holds: Callable[[str], bool],
        random: Callable[[int], bytes] = urandom,
    ) -> None:
        self._media = media
        self._engine = engine
        self._parties = dict(parties)
        self._holds = holds
        self._random = random
        self._keying = {side: self._new_keying(parties[side]) for side in SIDES}
        self._sent = {
            Side.CALLER: Description(session_id),
            Side.CALLEE: Description(session_id + 1),
        }
        self._offer: tuple[Side, Stream] | None = None
        self._offered = b""  # the open offer as it came
        self._before: tuple[Offer | None] | None = None  # what the other side was told before
        self._last: tuple[Side, bytes, bytes] | None = None  # offerer, its offer, its answer
        self._applied: dict[Side, LegMedia] = {}
        self._streams: dict[Side, Stream] = {}
        self.on_codec: Callable[[str], None] | None = None  # told when the codec changes

    def _new_keying(self, party: Party) -> Keying:
        if party.security.mode == "dtls":
            return Dtls(self._engine.fingerprint, self._random)
        return Sdes(party.security, self._random)

    @property
    def open(self) -> bool:
        """An offer waits for its answer: another one is glare (491)."""
        return self._offer is not None

    @property
    def agreed(self) -> bool:
        """Both sides have described themselves at least once."""
        return bool(self._streams)

    def offer(self, side: Side, body: bytes) -> bytes:
        """Take an offer from `side`; returns what the other side is offered.

        Raises MalformedSdp (400) or NotAcceptable (488); nothing has changed then.
        """
        keying = self._keying[side]
        stream = check_offer(Session.parse(body), keying.choose)
        if self._offer is not None:
            raise NotAcceptable("another offer is still open")
        self._check_address(side, stream)
        self._offer = (side, stream)
        self._offered, self._before = body, (self._sent[side.other].said,)
        keying.accept()
        return self._tell(side.other, stream)

    def answer(self, side: Side, body: bytes) -> bytes:
        """Take the answer from `side`; returns the offerer's. May repeat (18x, then 2xx).

        Raises WrongAnswer (502), or NotAcceptable when there was no offer; nothing has
        changed then.
        """
        if self._offer is None or self._offer[0] is side:
            raise NotAcceptable("an answer without an offer")
        offered = self._offer[1]
        answered = self._answered(side, self._keying[side], self._sent[side], body)
        local = self._media.local(side.other)
        terms = self._keying[side.other].answer(local)
        told = (
            self._sent[side.other]
            .build(lambda origin: relay_answer(offered, answered, local, origin, terms))
            .body
        )
        self._before = None
        self._last = (side.other, self._offered, told)
        self._apply(side, answered, offered)
        return told

    def propose(self, side: Side, party: Party, session_id: int) -> Proposal:
        """Offer `side` to another party; nothing changes for the two that talk."""
        stream = unheld(self._streams[side.other])
        proposal = Proposal(stream, self._new_keying(party), party, session_id)
        local = self._media.local(side)
        terms = proposal.keying.offer(local)
        proposal.description.build(lambda origin: relay_offer(stream, local, origin, terms))
        return proposal

    def take_over(self, side: Side, proposal: Proposal, body: bytes) -> bytes:
        """The party accepted the proposal with `body`, and has `side` from now on.

        Returns what the other side must be offered, empty when nothing changes for it; its
        answer goes to `reaffirm`. Raises WrongAnswer (502) or NotAcceptable (488); nothing
        has changed then.
        """
        answered = self._answered(side, proposal.keying, proposal.description, body)
        other, streams = side.other, self._streams
        before = self._keying[side], self._parties[side]
        self._keying[side], self._parties[side] = proposal.keying, proposal.party
        try:
            self._apply(side, answered, streams[other])
        except NotAcceptable:
            self._keying[side], self._parties[side] = before
            self._apply(side, streams[side], streams[other])
            raise
        self._sent[side] = proposal.description
        self._last = None
        said = self.current(other)
        told = self._tell(other, answered)
        return told if told != said else b""

    def close(self) -> None:
        """The exchange is over, answered or failed: what was agreed before stays."""
        if self._offer is not None and self._before is not None:
            (self._sent[self._offer[0].other].said,) = self._before
        self._offer = self._before = None
        for keying in self._keying.values():
            keying.keep()

    def repeated(self, side: Side, body: bytes) -> bytes:
        """The answer to an offer that only repeats the one agreed last; empty for any other."""
        if self._last is not None and self._last[0] is side and self._last[1] == body:
            return self._last[2]
        return b""

    def current(self, side: Side) -> bytes:
        """What a side was told last: it may be said again, and changes nothing then."""
        return self._sent[side].body

    def reaffirm(self, side: Side, body: bytes) -> None:
        """Take the answer to `current(side)` said again; a peer may move its address with it.

        Raises WrongAnswer (502); nothing has changed then.
        """
        offered, said = self._streams[side.other], self._sent[side].said
        assert said is not None
        self._keying[side].repeat(Stream(Session.parse(said.body), said.position))
        answered = self._answered(side, self._keying[side], self._sent[side], body)
        self._last = None
        self._apply(side, answered, offered)

    def forget(self) -> None:
        """Nobody is sent anything any more: what was agreed came from an address that is left."""
        for side, leg in self._applied.items():
            self._media.update(side, leg._replace(remote=None, may_send=False, may_receive=False))

    def renew(self) -> None:
        """Tell the engine again what holds: its silence is timed from the answer on."""
        for side, leg in self._applied.items():
            self._media.update(side, leg)

    def codec(self) -> str:
        """The first audio codec of the answer (or of the open offer), upper case, or ""."""
        streams = list(self._streams.values())  # the answerer's comes first
        if not streams and self._offer is not None:
            streams = [self._offer[1]]
        return streams[0].section.voice_codec() if streams else ""

    def suite(self, side: Side) -> str | None:
        """A side's SRTP suite, "" for plain RTP; None when nothing is agreed yet. With "DTLS"
        the engine tells the suite later."""
        if (leg := self._applied.get(side)) is None:
            return None
        if leg.webrtc is not None:
            return "DTLS"
        return leg.srtp.send.suite if leg.srtp is not None else ""

    def _tell(self, side: Side, stream: Stream) -> bytes:
        """What a side is offered: its partner's stream, in our terms."""
        local, description = self._media.local(side), self._sent[side]
        terms, before = self._keying[side].offer(local), description.said
        return description.build(
            lambda origin: relay_offer(stream, local, origin, terms, before)
        ).body

    def _answered(self, side: Side, keying: Keying, told: Description, body: bytes) -> Stream:
        """The stream of the answer to what we told, with its keys taken. Raises WrongAnswer."""
        assert told.said is not None
        try:
            answered = check_answer(told.said.position, Session.parse(body))
            self._check_address(side, answered)
        except WrongAnswer:
            raise
        except (MalformedSdp, NotAcceptable) as error:
            raise WrongAnswer(f"the answer: {error}") from None
        keying.take_answer(answered)
        return answered

    def _check_address(self, side: Side, stream: Stream) -> None:
        """Whether audio may go where this description wants it. Raises NotAcceptable."""
        remote = way(stream.session, stream.section).remote
        if remote is None:
            return
        if not self._holds(remote.host):
            raise NotAcceptable("the media address (c=) is outside this region's networks")
        self._media.check(side, remote)

    def _apply(self, side: Side, answered: Stream, offered: Stream) -> None:
        before = self.codec() if self.on_codec is not None else ""
        self._streams = {side: answered, side.other: offered}  # codec() asks for the first
        for each in SIDES:
            stream, other = self._streams[each], self._streams[each.other]
            secrets = self._keying[each].agree()
            leg = leg_media(stream, other, self._parties[each].symmetric, secrets)
            if self._applied.get(each) != leg:
                self._applied[each] = leg
                self._media.update(each, leg)
        if self.on_codec is not None and (codec := self.codec()) != before:
            self.on_codec(codec)

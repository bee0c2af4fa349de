"""One call's offer/answer: what each leg is told, and what the engine must do (RFC 3264).

The relay stands between two peers: an offer from one side goes to the other with our
address in it, and so does the answer. At most one offer is open at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom

from relay.call.ports import SIDES, CallMedia, LegMedia, Side
from relay.errors import MalformedSdp, NotAcceptable, WrongAnswer
from relay.sdp.crypto import Srtp
from relay.sdp.keying import Keying
from relay.sdp.negotiation import (
    Origin,
    Stream,
    Terms,
    check_answer,
    check_offer,
    leg_media,
    relay_answer,
    relay_offer,
    unheld,
)
from relay.sdp.session import Session
from relay.sdp.way import way

_Build = Callable[[Origin], bytes]


class Description:
    """What we last sent to one leg, so that its version counts changes (RFC 3264 section 8)."""

    __slots__ = ("body", "session_id", "version")

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.version = 0
        self.body = b""

    def origin(self) -> Origin:
        return Origin(self.session_id, self.version)


class Proposal:
    """What the party that is to take a side over is offered: the other side's media, with
    keys and a description of its own."""

    __slots__ = ("description", "keying", "stream", "symmetric")

    def __init__(self, stream: Stream, keying: Keying, symmetric: bool, session_id: int) -> None:
        self.stream = stream
        self.keying = keying
        self.symmetric = symmetric
        self.description = Description(session_id)

    @property
    def body(self) -> bytes:
        return self.description.body


class Negotiation:
    """The descriptions of both legs and the open offer, if there is one.

    `security` says per side whether its media are encrypted: each leg has keys of its own.
    `holds` tells the addresses that are inside the region: audio goes to no other.
    """

    __slots__ = (
        "_applied",
        "_before",
        "_holds",
        "_keying",
        "_last",
        "_media",
        "_offer",
        "_offered",
        "_random",
        "_sent",
        "_streams",
        "_symmetric",
        "on_codec",
    )

    def __init__(
        self,
        media: CallMedia,
        symmetric: dict[Side, bool],
        session_id: int,
        security: Mapping[Side, Srtp],
        holds: Callable[[str], bool],
        random: Callable[[int], bytes] = urandom,
    ) -> None:
        self._media = media
        self._symmetric = symmetric
        self._holds = holds
        self._random = random
        self._keying = {side: Keying(security[side], random) for side in SIDES}
        self._sent = {
            Side.CALLER: Description(session_id),
            Side.CALLEE: Description(session_id + 1),
        }
        self._offer: tuple[Side, Stream] | None = None
        self._offered = b""  # the open offer as it came
        self._before: bytes | None = None  # what the other side was told before it
        self._last: tuple[Side, bytes, bytes] | None = None  # offerer, its offer, its answer
        self._applied: dict[Side, LegMedia] = {}
        self._streams: dict[Side, Stream] = {}
        self.on_codec: Callable[[str], None] | None = None  # told when the codec changes

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
        stream, crypto = check_offer(Session.parse(body), keying.choose)
        if self._offer is not None:
            raise NotAcceptable("another offer is still open")
        self._check_address(side, stream)
        self._offer = (side, stream)
        self._offered, self._before = body, self._sent[side.other].body
        keying.accept(stream.section, crypto)
        terms = Terms(*self._keying[side.other].offer())
        local = self._media.local(side.other)
        return self._describe(side.other, lambda origin: relay_offer(stream, local, origin, terms))

    def answer(self, side: Side, body: bytes) -> bytes:
        """Take the answer from `side`; returns the offerer's. May repeat (18x, then 2xx).

        Raises WrongAnswer (502), or NotAcceptable when there was no offer; nothing has
        changed then.
        """
        if self._offer is None or self._offer[0] is side:
            raise NotAcceptable("an answer without an offer")
        offered = self._offer[1]
        answered = self._answered(side, self._keying[side], offered, body)
        local = self._media.local(side.other)
        lines = self._keying[side.other].answer()
        told = self._describe(
            side.other, lambda origin: relay_answer(offered, answered, local, origin, lines)
        )
        self._before = None
        self._last = (side.other, self._offered, told)
        self._apply(side, answered, offered)
        return told

    def propose(self, side: Side, symmetric: bool, session_id: int, srtp: Srtp) -> Proposal:
        """Offer `side` to another party; nothing changes for the two that talk."""
        stream = unheld(self._streams[side.other])
        proposal = Proposal(stream, Keying(srtp, self._random), symmetric, session_id)
        description = proposal.description
        terms = Terms(*proposal.keying.offer())
        local = self._media.local(side)
        description.body = relay_offer(stream, local, description.origin(), terms)
        return proposal

    def take_over(self, side: Side, proposal: Proposal, body: bytes) -> bytes:
        """The party accepted the proposal with `body`, and has `side` from now on.

        Returns what the other side must be offered, empty when nothing changes for it; its
        answer goes to `reaffirm`. Raises WrongAnswer (502) or NotAcceptable (488); nothing
        has changed then.
        """
        answered = self._answered(side, proposal.keying, proposal.stream, body)
        other, streams = side.other, self._streams
        before = self._keying[side], self._symmetric[side]
        self._keying[side], self._symmetric[side] = proposal.keying, proposal.symmetric
        try:
            self._apply(side, answered, streams[other])
        except NotAcceptable:
            self._keying[side], self._symmetric[side] = before
            self._apply(side, streams[side], streams[other])
            raise
        self._sent[side] = proposal.description
        self._last = None
        said, local = self.current(other), self._media.local(other)
        terms = Terms(*self._keying[other].offer())
        told = self._describe(other, lambda origin: relay_offer(answered, local, origin, terms))
        return told if told != said else b""

    def close(self) -> None:
        """The exchange is over, answered or failed: what was agreed before stays."""
        if self._offer is not None and self._before is not None:
            self._sent[self._offer[0].other].body = self._before
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
        offered = self._streams[side.other]
        said = Session.parse(self.current(side))
        self._keying[side].repeat(said.sections[offered.position])
        answered = self._answered(side, self._keying[side], offered, body)
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
        """A side's SRTP suite, "" for plain RTP; None when nothing is agreed yet."""
        if (leg := self._applied.get(side)) is None:
            return None
        return leg.srtp.send.suite if leg.srtp is not None else ""

    def _describe(self, side: Side, build: _Build) -> bytes:
        description = self._sent[side]
        body = build(description.origin())
        if body != description.body and description.body:
            description.version += 1
            body = build(description.origin())
        description.body = body
        return body

    def _answered(self, side: Side, keying: Keying, offered: Stream, body: bytes) -> Stream:
        """The stream of an answer, with its keys taken. Raises WrongAnswer."""
        try:
            answered = check_answer(offered, Session.parse(body))
            self._check_address(side, answered)
        except WrongAnswer:
            raise
        except (MalformedSdp, NotAcceptable) as error:
            raise WrongAnswer(f"the answer: {error}") from None
        keying.take_answer(answered.section)
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
            keys = self._keying[each].agree()
            leg = leg_media(stream, other, self._symmetric[each], keys)
            if self._applied.get(each) != leg:
                self._applied[each] = leg
                self._media.update(each, leg)
        if self.on_codec is not None and (codec := self.codec()) != before:
            self.on_codec(codec)

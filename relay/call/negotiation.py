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
)
from relay.sdp.session import Session

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


class Negotiation:
    """The descriptions of both legs and the open offer, if there is one.

    `security` says per side whether its media are encrypted: each leg has keys of its own.
    """

    __slots__ = (
        "_applied",
        "_before",
        "_keying",
        "_last",
        "_media",
        "_offer",
        "_offered",
        "_sent",
        "_streams",
        "_symmetric",
    )

    def __init__(
        self,
        media: CallMedia,
        symmetric: dict[Side, bool],
        session_id: int,
        security: Mapping[Side, Srtp],
        random: Callable[[int], bytes] = urandom,
    ) -> None:
        self._media = media
        self._symmetric = symmetric
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
        answered = self._answered(side, offered, body)
        local = self._media.local(side.other)
        lines = self._keying[side.other].answer()
        told = self._describe(
            side.other, lambda origin: relay_answer(offered, answered, local, origin, lines)
        )
        self._before = None
        self._last = (side.other, self._offered, told)
        self._apply(side, answered, offered)
        return told

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
        answered = self._answered(side, offered, body)
        self._last = None
        self._apply(side, answered, offered)

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

    def _describe(self, side: Side, build: _Build) -> bytes:
        description = self._sent[side]
        body = build(description.origin())
        if body != description.body and description.body:
            description.version += 1
            body = build(description.origin())
        description.body = body
        return body

    def _answered(self, side: Side, offered: Stream, body: bytes) -> Stream:
        try:
            answered = check_answer(offered, Session.parse(body))
        except MalformedSdp as error:
            raise WrongAnswer(f"the answer: {error}") from None
        self._keying[side].take_answer(answered.section)
        return answered

    def _apply(self, side: Side, answered: Stream, offered: Stream) -> None:
        self._streams = {side: answered, side.other: offered}  # codec() asks for the first
        for each in SIDES:
            stream, other = self._streams[each], self._streams[each.other]
            keys = self._keying[each].agree()
            leg = leg_media(stream, other, self._symmetric[each], keys)
            if self._applied.get(each) != leg:
                self._applied[each] = leg
                self._media.update(each, leg)

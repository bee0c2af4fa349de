"""One call's offer/answer: what each leg is told, and what the engine must do (RFC 3264).

The relay stands between two peers: an offer from one side goes to the other with our
address in it, and so does the answer. At most one offer is open at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom

from relay.call.end import End, Party, keying, transcoding
from relay.call.ports import SIDES, CallMedia, LegMedia, Media, MediaAddress, Side
from relay.errors import MalformedSdp, NotAcceptable, RelayError, WrongAnswer
from relay.sdp.coding import Match, Transcoding, extended, match, narrowed, transcodable
from relay.sdp.description import Coding, IceDtls
from relay.sdp.negotiation import (
    Offer,
    check_answer,
    check_offer,
    leg_media,
    relay_answer,
    relay_offer,
    unheld,
)
from relay.sdp.session import Session, Stream
from relay.sdp.way import way


class Negotiation:
    """The descriptions of both legs and the open offer, if there is one.

    `parties` says per side whether its media are encrypted and how: each leg has keys of its
    own. `allows` says where a side's audio may go: inside the region, and nowhere else.
    """

    __slots__ = (
        "_allows",
        "_applied",
        "_before",
        "_clear",
        "_codings",
        "_ends",
        "_engine",
        "_last",
        "_media",
        "_offer",
        "_offered",
        "_random",
        "_streams",
        "on_codec",
    )

    def __init__(
        self,
        media: CallMedia,
        engine: Media,
        parties: Mapping[Side, Party],
        session_id: int,
        allows: Callable[[Side, MediaAddress], bool],
        random: Callable[[int], bytes] = urandom,
        former: Negotiation | None = None,
    ) -> None:
        """`former` was with a callee at another address: to a voice client that calls, its
        early media are a path and keys that it goes on with."""
        self._media = media
        self._engine = engine
        self._allows = allows
        self._random = random
        self._ends = {s: self._new_end(parties[s], session_id + s.value) for s in SIDES}
        if former is not None and parties[Side.CALLER].security.mode == "dtls":
            self._ends[Side.CALLER] = former._ends[Side.CALLER]
        self._offer: tuple[Side, Stream] | None = None
        self._offered = b""  # the open offer as it came
        self._before: tuple[Offer | None] | None = None  # what the other side had been told
        self._last: tuple[Side, bytes, bytes] | None = None  # offerer, its offer, its answer
        self._applied: dict[Side, LegMedia] = {}
        self._streams: dict[Side, Stream] = {}
        self._codings: dict[Side, Coding | None] = {}
        self._clear: set[Side] = set()  # who had plain RTP, if only for a while
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
        end = self._ends[side]
        stream = check_offer(Session.parse(body), end.keying.choose)
        if self._offer is not None:
            raise NotAcceptable("another offer is still open")
        self._check_address(side, stream)
        self._offer = (side, stream)
        self._offered, self._before = body, (self._ends[side.other].said,)
        end.keying.accept()
        return self._tell(side.other, self._ends[side.other], stream)

    def answer(self, side: Side, body: bytes) -> bytes:
        """Take the answer from `side`; returns the offerer's. May repeat (18x, then 2xx).

        Raises WrongAnswer (502), or NotAcceptable when there was no offer or no codec is
        common; nothing has changed then.
        """
        if self._offer is None or self._offer[0] is side:
            raise NotAcceptable("an answer without an offer")
        offered, offerer = self._offer[1], self._ends[side.other]
        found = self._answered(side, self._ends[side], body, offered)
        local = self._media.local(side.other)
        terms = offerer.keying.answer(local)
        told = offerer.tell(lambda origin: relay_answer(offered, found.told, local, origin, terms))
        self._before = None
        self._last = (side.other, self._offered, told)
        self._apply(side, found, offered)
        return told

    def propose(self, side: Side, party: Party, session_id: int) -> End:
        """Offer `side` to another party; nothing changes for the two that talk."""
        end = self._new_end(party, session_id)
        self._tell(side, end, unheld(self._streams[side.other]))
        return end

    def take_over(self, side: Side, end: End, body: bytes) -> bytes:
        """The party accepted what it was proposed with `body`, and has `side` from now on.

        Returns what the other side must be offered, empty when nothing changes for it; its
        answer goes to `reaffirm`. Raises WrongAnswer (502) or NotAcceptable (488); nothing
        has changed then.
        """
        other, streams, codings = side.other, self._streams, self._codings
        found = self._answered(side, end, body, streams[other])
        before, self._ends[side] = self._ends[side], end
        clear, self._clear = self._clear, self._clear - {side}
        try:
            self._apply(side, found, streams[other])
        except NotAcceptable:
            self._ends[side], self._clear = before, clear
            was = Match(streams[side], streams[side], codings[other], codings[side])
            self._apply(side, was, streams[other])
            raise
        self._last = None
        said = self.current(other)
        told = self._tell(other, self._ends[other], found.answered)
        return told if told != said else b""

    def close(self) -> None:
        """The exchange is over, answered or failed: what was agreed before stays."""
        if self._offer is not None and self._before is not None:
            (self._ends[self._offer[0].other].said,) = self._before
        self._offer = self._before = None
        for end in self._ends.values():
            end.keying.keep()

    def repeated(self, side: Side, body: bytes) -> bytes:
        """The answer to an offer that only repeats the one agreed last; empty for any other."""
        if self._last is not None and self._last[0] is side and self._last[1] == body:
            return self._last[2]
        return b""

    def restarted(self, side: Side, body: bytes) -> bytes:
        """The answer to an offer that only restarts a voice client's ICE or DTLS, as after its
        network changed; empty for any other, and nothing has changed then.

        The other side is not asked: it could be slow or refuse, and would hear nothing new.
        """
        leg, end = self._applied.get(side), self._ends[side]
        if self._offer is not None or leg is None or leg.webrtc is None:
            return b""
        try:
            stream = check_offer(Session.parse(body), end.keying.choose)
            found = self._as_before(side, stream)
        except RelayError:
            return b""  # said when it is taken as an offer
        if found is None:
            return b""
        end.keying.accept()
        secrets = end.keying.agree()
        if secrets == leg.webrtc:
            return b""
        assert isinstance(secrets, IceDtls)
        local = self._media.local(side)
        terms = end.keying.answer(local)
        told = end.tell(lambda origin: relay_answer(stream, found.told, local, origin, terms))
        self._last = side, body, told
        self._applied[side] = leg._replace(webrtc=secrets)
        self._media.update(side, self._applied[side])
        return told

    def current(self, side: Side) -> bytes:
        """What a side was told last: it may be said again, and changes nothing then."""
        return self._ends[side].body

    def reaffirm(self, side: Side, body: bytes) -> None:
        """Take the answer to `current(side)` said again; a peer may move its address with it.

        Raises WrongAnswer (502); nothing has changed then.
        """
        offered, end = self._streams[side.other], self._ends[side]
        assert end.said is not None
        end.keying.repeat(Stream(Session.parse(end.body), end.said.position))
        found = self._answered(side, end, body, offered)
        self._last = None
        self._apply(side, found, offered)

    def forget(self) -> None:
        """Nobody is sent anything any more: what was agreed came from an address that is left."""
        for side, leg in self._applied.items():
            self._media.update(side, leg._replace(remote=None, may_send=False, may_receive=False))

    def renew(self) -> None:
        """Tell the engine again what holds: its silence is timed from the answer on."""
        for side, leg in self._applied.items():
            self._media.update(side, leg)

    @property
    def transcoded(self) -> bool:
        """One side has Opus, the other G.711."""
        return any(self._codings.values())

    def codec(self) -> str:
        """The first audio codec of the answer (or of the open offer), upper case, or ""; of a
        call that is transcoded the one that is not Opus."""
        for coding in self._codings.values():
            if coding is not None and coding.codec != "OPUS":
                return coding.codec
        streams = list(self._streams.values())  # the answerer's comes first
        if not streams and self._offer is not None:
            streams = [self._offer[1]]
        return streams[0].section.voice_codec() if streams else ""

    def codec_of(self, side: Side) -> str:
        """The codec that this side has: of a call that is transcoded its own."""
        coding = self._codings.get(side)
        return coding.codec if coding is not None else self.codec()

    def opus_types(self) -> frozenset[int]:
        """The payload types that are Opus, of either side."""
        return frozenset(
            number
            for stream in self._streams.values()
            for number, (name, _) in stream.section.codecs().items()
            if name == "OPUS"
        )

    def lacks(self) -> str:
        """Why a side may have found no codec in the open offer; "" when it is not ours to say."""
        why = self._transcoding(Side.CALLER, self._ends[Side.CALLER])
        if self._offer is None or why in (Transcoding.UNASKED, Transcoding.ON):
            return ""
        lacks = transcodable(self._offer[1])
        return f"perhaps no common codec, and {why.value}" if lacks else ""

    def suite(self, side: Side) -> str | None:
        """A side's SRTP suite, "" for plain RTP, at whatever time; None when nothing is agreed
        yet. With "DTLS" the engine tells the suite later."""
        if (leg := self._applied.get(side)) is None:
            return None
        if side in self._clear:
            return ""
        if leg.webrtc is not None:
            return "DTLS"
        return leg.srtp.send.suite if leg.srtp is not None else ""

    def _new_end(self, party: Party, session_id: int) -> End:
        return End(party, keying(party, self._engine.fingerprint, self._random), session_id)

    def _transcoding(self, side: Side, end: End) -> Transcoding:
        """Whether a call between `end`, at `side`, and the other side may be transcoded."""
        return transcoding(end.party, self._ends[side.other].party, self._engine.transcodes)

    def _tell(self, side: Side, end: End, stream: Stream) -> bytes:
        """What a side is offered: its partner's stream, in our terms."""
        if self._transcoding(side, end) is Transcoding.ON:
            known = self._streams.get(side) if end is self._ends[side] else None
            stream = extended(stream, {} if known is None else known.section.codecs())
        local, before = self._media.local(side), end.said
        terms = end.keying.offer(local)
        told = end.tell(lambda origin: relay_offer(stream, local, origin, terms, before))
        if terms.ice is not None:
            self._media.offer(side, terms.ice)
        return told

    def _answered(self, side: Side, end: End, body: bytes, offered: Stream) -> Match:
        """The answer to what we told of an offer, with its keys taken.

        Raises WrongAnswer (502) or NoCommonCodec (488).
        """
        assert end.said is not None
        try:
            answered = check_answer(end.said.position, Session.parse(body))
            self._check_address(side, answered)
        except WrongAnswer:
            raise
        except (MalformedSdp, NotAcceptable) as error:
            raise WrongAnswer(f"the answer: {error}") from None
        found = match(offered, answered, self._transcoding(side, end))
        end.keying.take_answer(answered)
        return found

    def _as_before(self, side: Side, stream: Stream) -> Match | None:
        """The other side's answer to an offer from `side` if that needs no new one."""
        was, partner, coding = self._streams[side], self._streams[side.other], self._codings[side]
        if coding is None:  # what both have agreed on
            partner = narrowed(partner, was.section.codecs())
        found = match(stream, partner, self._transcoding(side, self._ends[side]))
        directions = [way(each.session, each.section).direction for each in (stream, was)]
        return found if found.offerer == coding and directions[0] == directions[1] else None

    def _check_address(self, side: Side, stream: Stream) -> None:
        """Whether audio may go where this description wants it. Raises NotAcceptable."""
        remote = way(stream.session, stream.section).remote
        if remote is None:
            return
        if not self._allows(side, remote):
            raise NotAcceptable("the media address (c=) is outside this region's networks")
        self._media.check(side, remote)

    def _apply(self, side: Side, found: Match, offered: Stream) -> None:
        before = self.codec() if self.on_codec is not None else ""
        self._streams = {side: found.answered, side.other: offered}  # codec() asks for the first
        self._codings = {side: found.answerer, side.other: found.offerer}
        for each in SIDES:
            stream, other = self._streams[each], self._streams[each.other]
            end, coding = self._ends[each], self._codings[each]
            leg = leg_media(stream, other, end.party.symmetric, end.keying.agree(), coding)
            if leg.srtp is None and leg.webrtc is None:
                self._clear.add(each)
            if self._applied.get(each) != leg:
                self._applied[each] = leg
                self._media.update(each, leg)
        if self.on_codec is not None and (codec := self.codec()) != before:
            self.on_codec(codec)

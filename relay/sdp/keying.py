"""What secures one leg's media, over all its offers and answers: one interface for SDES keys
(`sdes`) and for DTLS by ICE (`dtls`)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.sdp.description import IceCredentials, MediaAddress, Secrets
from relay.sdp.session import Stream


class Terms(NamedTuple):
    """How our description of a leg says that its media are secured, if they are.

    `profile` is that of an offer, without the F of feedback; an answer has the offered one.
    `ice` is ours on a leg by ICE and DTLS: RTCP is always multiplexed, and other lines are left
    out.
    """

    profile: str = "RTP/AVP"
    lines: tuple[str, ...] = ()
    session_lines: tuple[str, ...] = ()
    ice: IceCredentials | None = None

    @property
    def dtls(self) -> bool:
        return self.ice is not None


class Keying(Protocol):
    """One leg's: what was agreed, and what the open offer would change.

    Either the peer offers (`choose`, `accept`, `answer`) or we do (`offer` or `repeat`, then
    `take_answer`); `agree` or `keep` say what became of it.
    """

    def choose(self, stream: Stream) -> None:
        """Whether an offered stream can be secured as this leg wants it.

        Raises NotAcceptable (488). What was agreed and what is offered stay as they are.
        """

    def accept(self) -> None:
        """Take the stream that was chosen last."""

    def answer(self, local: MediaAddress) -> Terms:
        """Of our answer; `local` is our address on this leg."""

    def offer(self, local: MediaAddress) -> Terms:
        """Of our offer."""

    def repeat(self, said: Stream) -> None:
        """What we said last is said again, as an offer."""

    def take_answer(self, stream: Stream) -> None:
        """The peer's answer to our offer. Raises WrongAnswer; nothing has changed then."""

    def keep(self) -> None:
        """The exchange is over: what it did not change stays."""

    def agree(self) -> Secrets:
        """The exchange is answered (it may be again): what holds now."""

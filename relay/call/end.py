"""One end of a call's media: how they are carried there, and what that side was told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from relay.sdp.coding import Transcoding
from relay.sdp.crypto import OFF, Srtp
from relay.sdp.description import Fingerprint
from relay.sdp.dtls import Dtls
from relay.sdp.keying import Keying
from relay.sdp.negotiation import Offer, Origin
from relay.sdp.sdes import Sdes


class Party(NamedTuple):
    """How one side's media are carried, as its trunk or account has it.

    `transcode` is an account's; a trunk has no say.
    """

    security: Srtp = OFF
    symmetric: bool = False
    transcode: bool | None = None


def keying(party: Party, fingerprint: Fingerprint, random: Callable[[int], bytes]) -> Keying:
    """What secures its leg; `fingerprint` is that of our certificate."""
    if party.security.mode == "dtls":
        return Dtls(fingerprint, random)
    return Sdes(party.security, random)


def transcoding(one: Party, other: Party, built: bool) -> Transcoding:
    """Whether a call between these two may be transcoded."""
    if one.transcode is None and other.transcode is None:
        return Transcoding.UNASKED
    if one.transcode is False or other.transcode is False:
        return Transcoding.OFF
    return Transcoding.ON if built else Transcoding.NOT_BUILT


class End:
    """A party's keys, and what we last sent to it, so that the version counts changes
    (RFC 3264 section 8). Also of a party that is only proposed to take a side over."""

    __slots__ = ("_session_id", "_version", "keying", "party", "said")

    def __init__(self, party: Party, keying: Keying, session_id: int) -> None:
        self.party = party
        self.keying = keying
        self.said: Offer | None = None
        self._session_id = session_id
        self._version = 0

    @property
    def body(self) -> bytes:
        return b"" if self.said is None else self.said.body

    def tell(self, build: Callable[[Origin], Offer]) -> bytes:
        """Say something: the version grows when it is not what was said last."""
        said = build(Origin(self._session_id, self._version))
        if self.said is not None and said.body != self.said.body:
            self._version += 1
            said = build(Origin(self._session_id, self._version))
        self.said = said
        return said.body

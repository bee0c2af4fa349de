"""What each early dialog of the callee said of its media, until one of them answers."""

from __future__ import annotations

from relay.call.negotiation import Negotiation
from relay.call.ports import Side
from relay.errors import NotAcceptable


class Branches:
    """The callee's descriptions by early dialog: the engine hears the one that spoke last,
    and in the end the one that answers. One attempt's own, as its negotiation is.

    `delayed` is a call whose INVITE has no offer: the callee makes it. `settled` says that
    offer and answer are complete before the 2xx, which then repeats what is known.
    """

    __slots__ = ("_heard", "_negotiation", "_said", "delayed", "settled")

    def __init__(self, negotiation: Negotiation, delayed: bool) -> None:
        self._negotiation = negotiation
        self._heard = ""
        self._said: dict[str, tuple[bytes, bytes]] = {}  # by branch: its SDP, the caller's
        self.delayed = delayed
        self.settled = False

    @property
    def count(self) -> int:
        """Early dialogs that have described themselves."""
        return len(self._said)

    def rang(self, branch: str, sdp: bytes) -> bytes:
        """The description in a 18x as the caller gets it. Raises RelayError."""
        if not sdp or self.settled:
            return b""
        return self._take(branch, sdp)

    def answered(self, branch: str, sdp: bytes) -> bytes:
        """The description of a 2xx, or what its early dialog said before. Raises RelayError."""
        if self.settled:
            return b""
        if not sdp:
            if not self._said:
                raise NotAcceptable("the callee answered without a session description")
            sdp = self._said.get(branch, self._said[self._heard])[0]
        return self._take(branch, sdp)

    def _take(self, branch: str, sdp: bytes) -> bytes:
        kept = self._said.get(branch)
        same = kept is not None and kept[0] == sdp
        if kept is not None and same and self._heard == branch:
            return kept[1]
        if self.delayed:
            self._negotiation.close()  # an offer of another branch, or another one of this
            told = self._negotiation.offer(Side.CALLEE, sdp)
        else:
            told = self._negotiation.answer(Side.CALLEE, sdp)
            if kept is not None and same:
                told = kept[1]  # in its own dialog nothing has changed
        self._said[branch] = sdp, told
        self._heard = branch
        return told

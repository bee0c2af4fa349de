"""The caller's leg: we are the server of its INVITE (RFC 3261 section 13.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.events import Acknowledged, Cancelled, NotAcknowledged
from relay.call.invite import IncomingInvite
from relay.call.leg import Leg
from relay.call.ports import Side
from relay.sip.dialog import Dialog
from relay.sip.message import Request
from relay.sip.transaction import Hop, Transaction

if TYPE_CHECKING:
    from relay.call.call import Call


def wants_sips(request: Request) -> bool:
    """Whether the dialog is one of `sips:` URIs (RFC 3261 section 12.1.1)."""
    if request.uri[:5].lower() == "sips:":
        return True
    routes = request.record_routes
    first = routes[0] if routes else request.contact
    return first is not None and first.uri.scheme == "sips"


class CallerLeg(Leg):
    """Each early dialog of the callee gets a tag of its own towards the caller."""

    __slots__ = ("_tags", "invite")

    def __init__(
        self, call: Call, trunk: str, tx: Transaction, request: Request, source: Hop
    ) -> None:
        super().__init__(call, Side.CALLER, trunk, call.calls.token())
        self.reuse = source if source.transport != "udp" else None
        self.peer = source.host
        self.contact = self.signalling.contact(source, wants_sips(request))
        self.allow = request.headers.get("Allow") or ""
        self.invite = IncomingInvite(self, tx, request, self)
        self.incoming = self.invite
        self._tags: dict[str, str] = {}
        self.call.calls.remember(self, request.call_id, self.local_tag)

    def let_go(self) -> None:
        super().let_go()
        self.invite.tx.user = None
        del self.invite

    def ring(self, branch: str, status: int, reason: str, sdp: bytes) -> None:
        self.invite.progress(status, reason, self._tag(branch), sdp)

    def answer(self, branch: str, sdp: bytes, now: float) -> None:
        self.local_tag = self._tag(branch)
        self.dialog = Dialog.uas(self.invite.request, self.local_tag, self.contact)
        self.invite.accept(self.local_tag, sdp, now)

    def is_from_peer(self, request: Request) -> bool:
        return request.from_.tag == self.invite.request.from_.tag

    def on_early_request(self, tx: Transaction, request: Request, now: float) -> None:
        """A caller may end an early dialog with BYE (RFC 3261 section 15)."""
        if request.method != "BYE":
            super().on_early_request(tx, request, now)
            return
        self.respond(tx, request.response(200, to_tag=self.local_tag))
        self.on_cancel(now)

    def on_cancel(self, now: float) -> None:
        """CANCEL (already answered 200), or a caller whom no response can reach any more: too
        late once we have answered the INVITE."""
        if self.dialog is None and not self.gone:
            lost = "the caller's connection was lost" if self.invite.tx.terminated else ""
            self.refuse(self.invite.tx, self.invite.request, 487)
            self.call.feed(Cancelled(lost), now)
            self.leave()

    def on_ack(self, body: bytes, now: float) -> None:
        if not self.acknowledged():
            self.call.feed(Acknowledged(body), now)

    def on_no_ack(self, now: float) -> None:
        if not self.acknowledged():
            self.call.feed(NotAcknowledged(self.side), now)

    def _tag(self, branch: str) -> str:
        """Our tag for the callee's early dialog `branch`; the first takes the leg's own."""
        tag = self._tags.get(branch)
        if tag is None:
            tag = self.local_tag if not self._tags else self.call.calls.token()
            self._tags[branch] = tag
            self.call.calls.remember(self, self.invite.request.call_id, tag)
        return tag

"""The caller's leg: we are the server of its INVITE (RFC 3261 section 13.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.events import (
    Acknowledged,
    Cancelled,
    EarlyAnswered,
    HungUp,
    NotAcknowledged,
    Rang,
)
from relay.call.invite import IncomingInvite
from relay.call.leg import Leg
from relay.call.ports import Side
from relay.call.reliable import ReliableProgress
from relay.sip.dialog import Dialog
from relay.sip.message import Request
from relay.sip.options import requires, supports
from relay.sip.reliable import OPTION
from relay.sip.transaction import Hop, Transaction
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.call import Call
    from relay.call.clients import Client


def wants_sips(request: Request) -> bool:
    """Whether the dialog is one of `sips:` URIs (RFC 3261 section 12.1.1)."""
    if request.uri[:5].lower() == "sips:":
        return True
    routes = request.record_routes
    first = routes[0] if routes else request.contact
    return first is not None and first.uri.scheme == "sips"


class CallerLeg(Leg):
    """Each early dialog of the callee gets a tag of its own towards the caller."""

    __slots__ = ("_early", "_held", "_reliable", "_tags", "_when_reliable", "invite")

    def __init__(
        self,
        call: Call,
        trunk: str,
        tx: Transaction,
        request: Request,
        source: Hop,
        client: Client | None = None,
    ) -> None:
        super().__init__(call, Side.CALLER, trunk, call.calls.token())
        self.client = client
        self.reuse = source if source.transport != "udp" else None
        self.peer = source.host
        self.call_id, self.transport = request.call_id, source.transport
        self.contact = self.signalling.contact(source, wants_sips(request))
        self.allow = request.headers.get("Allow") or ""
        self.invite = IncomingInvite(self, tx, request, self)
        self.incoming = self.invite
        self._tags: dict[str, str] = {}
        self._when_reliable = _when_reliable(request, call.calls.router.peer(trunk).prack)
        self._reliable: ReliableProgress | None = None
        self._held: bytes | None = None  # the SDP of a 2xx that waits for a PRACK
        self._early: Dialog | None = None  # has acknowledged a reliable response
        self.call.calls.remember(self, request.call_id, self.local_tag)

    def who(self, request: Request) -> str:
        """Who calls: a voice client's identity, or From as its trunk writes numbers."""
        if self.client is not None:
            return self.client.identity
        uri = request.from_.uri
        user = uri.user if isinstance(uri, SipUri) else None
        return self.call.calls.router.plan(self.trunk).calling(user or "")

    def let_go(self) -> None:
        super().let_go()
        self.invite.tx.user = None
        del self.invite

    @property
    def live(self) -> Dialog | None:
        return self.dialog or self._early

    @property
    def waits_for_ack(self) -> bool:
        return self._held is not None or super().waits_for_ack

    @property
    def holds_sdp(self) -> bool:
        """A description in a 18x of ours is not acknowledged yet."""
        return self._reliable is not None and self._reliable.holds_sdp

    def ring(self, event: Rang, sdp: bytes, now: float) -> None:
        """An 18x, repeated until its PRACK where caller and trunk want it so."""
        response = self.invite.progress(event.status, event.reason, self._tag(event.branch), sdp)
        when = self._when_reliable
        if when == "always" or (when == "asked" and sdp and event.reliable):
            self._reliable = self._reliable or ReliableProgress(self)
            self._reliable.send(response, now)
        else:
            self.respond(self.invite.tx, response)

    def answer(self, branch: str, sdp: bytes, now: float) -> None:
        """200; not before the PRACK to a description that is out (RFC 3262 section 3)."""
        self.local_tag = tag = self._tag(branch)
        if self._early is not None and self._early.local_tag == tag:
            self.dialog = self._early
        else:
            self.dialog = Dialog.uas(self.invite.request, tag, self.contact)
        if self.holds_sdp:
            self._held = sdp
        else:
            self._accept(sdp, now)

    def _accept(self, sdp: bytes, now: float) -> None:
        self._held = None
        if self._reliable is not None:
            self._reliable.stop()
        self.invite.accept(self.local_tag, sdp, now)

    def leave(self) -> None:
        super().leave()
        if self._reliable is not None:
            self._reliable.stop()
            self._reliable = None

    def hang_up(self, reason: str = "") -> None:
        if self._held is not None:
            self._give_up(480)
        super().hang_up(reason)

    def _give_up(self, status: int, text: str = "") -> None:
        """The INVITE is refused although the callee had answered."""
        self._held = None
        self.refuse(self.invite.tx, self.invite.request, status, text)
        self.leave()

    # --- PRACK

    def on_prack(self, tx: Transaction, request: Request, now: float) -> None:
        progress = self._reliable
        response = progress.acknowledge(request) if progress is not None else None
        if progress is None or response is None:
            self.refuse(tx, request, 481, "no reliable response waits for this PRACK")
            return
        if self._early is None:
            self._early = Dialog.uas(self.invite.request, request.to.tag or "", self.contact)
        self._early.remote_cseq = request.cseq.number
        offered = bool(response.body) and not self.invite.request.body
        if request.body and not offered:
            # The response counts as acknowledged all the same (RFC 6337 section 2.2).
            self.refuse(tx, request, 488, "an offer in PRACK is not taken here: use UPDATE")
        else:
            self.respond(tx, request.response(200))
        if offered:
            self.call.feed(EarlyAnswered(request.body), now)
        if self._held is not None and not progress.holds_sdp:
            self._accept(self._held, now)
        elif not self.gone:
            progress.go_on(now)

    def on_no_prack(self, now: float) -> None:
        """64*T1 without a PRACK: the INVITE is refused (section 3)."""
        self._give_up(504, "a provisional response was never acknowledged with PRACK")
        self.call.feed(NotAcknowledged(self.side), now)

    def is_from_peer(self, request: Request) -> bool:
        return request.from_.tag == self.invite.request.from_.tag

    def on_early_request(self, tx: Transaction, request: Request, now: float) -> None:
        """A caller may end an early dialog with BYE (RFC 3261 section 15)."""
        if request.method == "PRACK":
            self.on_prack(tx, request, now)
            return
        if request.method != "BYE":
            super().on_early_request(tx, request, now)
            return
        self.respond(tx, request.response(200, to_tag=self.local_tag))
        self.on_cancel(now)

    def on_cancel(self, now: float, reason: str = "") -> None:
        """CANCEL (already answered 200), or a caller whom no response can reach any more: too
        late once we have answered the INVITE. `reason` says whether a call was missed."""
        if self._held is not None:
            self._give_up(487)
            self.call.feed(HungUp(self.side), now)
            return
        if self.dialog is None and not self.gone:
            lost = "the caller's connection was lost" if self.invite.tx.terminated else ""
            self.refuse(self.invite.tx, self.invite.request, 487)
            self.call.feed(Cancelled(lost, reason), now)
            self.leave()

    def on_bye(self, tx: Transaction, request: Request, now: float) -> None:
        if self._held is not None:
            self._held = None
            self.refuse(self.invite.tx, self.invite.request, 487)
        super().on_bye(tx, request, now)

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


def _when_reliable(request: Request, policy: str) -> str:
    """When our 18x are reliable: "always", "asked" by the callee's own, or "never"."""
    if requires(request, OPTION):
        return "always"
    if policy == "off" or not supports(request, OPTION):
        return "never"
    return "always" if policy == "required" else "asked"

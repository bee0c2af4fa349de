"""The callee's leg: we are the client of the INVITE (RFC 3261 section 13.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relay.call.events import Answered, Rang
from relay.call.hiding import without_addresses
from relay.call.invite import MOST_BRANCHES, Discarded, OutgoingInvite
from relay.call.leg import Leg
from relay.call.ports import Side
from relay.errors import MalformedMessage
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from relay.sip.reliable import OPTION, RAck, is_next, rseq_of
from relay.sip.transaction import Hop

if TYPE_CHECKING:
    from relay.call.call import Call


class Seeker(Protocol):
    """Whose attempts these are: a hunt's, one after the other, or a fork's, all at once."""

    def on_rang(self, leg: CalleeLeg, event: Rang, now: float) -> None: ...

    def on_answered(self, leg: CalleeLeg, event: Answered, now: float) -> None: ...

    def on_refused(
        self, leg: CalleeLeg, status: int, response: Response | None, now: float
    ) -> None: ...


class CalleeLeg(Leg):
    """One attempt: one INVITE, perhaps several early dialogs, one that is answered."""

    __slots__ = (
        "_ack_waits",
        "_branches",
        "_grown",
        "_seeker",
        "abandoned",
        "alone",
        "delayed_offer",
        "hop",
        "invite",
    )

    def __init__(self, call: Call, trunk: str, seeker: Seeker, side: Side = Side.CALLEE) -> None:
        super().__init__(call, side, trunk, call.calls.token())
        self._seeker = seeker
        self.hop: Hop | None = None  # where the INVITE went
        self.abandoned = False  # another attempt took its place
        self.alone = True  # no other attempt is made beside this one
        self.invite: OutgoingInvite | None = None
        self.delayed_offer = False  # the INVITE carries none: the callee makes the offer
        self._ack_waits = False
        self._grown = False  # has asked once more for a longer session timer
        self._branches: dict[str, EarlyDialog] = {}  # by the callee's tag

    @property
    def owns_call_id(self) -> bool:
        return True

    def start(self, invite: Request, hop: Hop, delayed_offer: bool) -> None:
        """Send the INVITE. With a delayed offer our ACK waits for the caller's."""
        self.hop = hop
        self.peer = hop.host
        self.call_id, self.transport, self.uri = invite.call_id, hop.transport, invite.uri
        self.delayed_offer = self._ack_waits = delayed_offer
        self.invite = OutgoingInvite(self, invite, self)
        self.call.calls.remember(self, invite.call_id, self.local_tag)
        self.call.calls.placed(invite)
        self.request(invite, hop, None, self.invite)

    def extensions(self, reliable: bool) -> list[tuple[str, str]]:
        """What our INVITE offers beside RFC 3261; `reliable`: we could do with PRACK."""
        policy = self.call.calls.router.peer(self.trunk).prack
        timer = self.session.offered()
        options = [OPTION] if reliable and policy != "off" else []
        fields = [("Require", OPTION)] if options and policy == "required" else []
        if timer:
            options.append("timer")
        if options:
            fields.append(("Supported", ", ".join(options)))
        return fields + timer

    @property
    def live(self) -> Dialog | None:
        """Before the answer: the early dialog, when there is but one."""
        if self.dialog is not None or len(self._branches) != 1:
            return self.dialog
        return next(iter(self._branches.values())).dialog

    def cancel(self, reason: str = "") -> None:
        """Give up before the answer; a 2xx that crosses is acknowledged and ended. `reason` is
        the CANCEL's (RFC 3326)."""
        if self.invite is None:
            self.leave()
        else:
            self.invite.cancel(reason)

    def acknowledge(self, sdp: bytes) -> None:
        """The ACK that had to wait for the caller's answer to a delayed offer."""
        if self._ack_waits and self.dialog is not None and self.invite is not None:
            self._ack_waits = False
            self.invite.acknowledge(self.dialog, sdp)

    def hang_up(self, reason: str = "") -> None:
        self.acknowledge(b"")  # a 2xx is acknowledged whatever comes next
        super().hang_up(reason)

    # --- what became of the INVITE

    def on_progress(self, response: Response, now: float) -> None:
        tag = response.to.tag or ""
        branch = self._branches.get(tag)
        if branch is None:
            if len(self._branches) >= MOST_BRANCHES:
                return  # each costs a tag towards the caller
            branch = self._branches[tag] = EarlyDialog()
        rseq = rseq_of(response)
        if rseq is not None and not self._is_reliable(branch, response, rseq):
            return
        reason = without_addresses(response.reason)
        # Two attempts may have the same tag: ours tells them apart.
        key, reliable = self.local_tag + tag, rseq is not None
        event = Rang(key, response.status, reason, response.body, reliable)
        self._seeker.on_rang(self, event, now)

    def _is_reliable(self, branch: EarlyDialog, response: Response, rseq: int) -> bool:
        """Acknowledge it when it is new and in its turn; else it is dropped."""
        assert self.invite is not None
        if not is_next(branch.rseq, rseq):
            return False
        if branch.dialog is None:
            try:
                dialog = Dialog.uac(self.invite.request, response)
                if not self.may_reach(dialog):
                    return False
            except MalformedMessage:
                return False
            branch.dialog = dialog
        answers = self.delayed_offer and bool(response.body)
        if answers and any(other.offer is not None for other in self._branches.values()):
            return False  # the caller can answer one offer only
        branch.rseq = rseq
        self.allow = response.headers.get("Allow") or self.allow
        rack = RAck(rseq, response.cseq.number, "INVITE")
        if answers and not self.call.branches.settled:
            branch.offer = rack
        else:
            self._acknowledge_early(branch.dialog, rack, b"")
        return True

    def answer_early(self, sdp: bytes) -> None:
        """The caller's answer to the offer of a reliable response goes into its PRACK."""
        self._ack_waits = False
        for branch in self._branches.values():
            if branch.offer is not None and branch.dialog is not None:
                rack, branch.offer = branch.offer, None
                self._acknowledge_early(branch.dialog, rack, sdp)

    def _acknowledge_early(self, dialog: Dialog, rack: RAck, sdp: bytes) -> None:
        prack = dialog.request("PRACK")
        prack.headers.add("RAck", str(rack))
        if sdp:
            prack.headers.add("Content-Type", "application/sdp")
            prack.body = sdp
        self.request(prack, dialog.next_hop_uri(), self.reuse, Discarded(), dialog)

    def _dialog_of(self, invite: OutgoingInvite, response: Response) -> Dialog:
        """The dialog of a 2xx; one that was early goes on counting. Raises MalformedMessage."""
        branch = self._branches.get(response.to.tag or "")
        if branch is None or branch.dialog is None:
            return Dialog.uac(invite.request, response)
        branch.dialog.confirm(response)
        return branch.dialog

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None:
        try:
            dialog = self._dialog_of(invite, response)
            usable = self.may_reach(dialog)
        except MalformedMessage:
            usable = False
        if not usable:
            self.on_refused(502, None, now)  # a 2xx that leads nowhere cannot be acknowledged
            return
        if self.dialog is not None or invite.cancelled:
            self._end_at_once(invite, dialog)
            return
        self.dialog = dialog
        self._stay_connected(invite)
        self.allow = response.headers.get("Allow") or self.allow
        self.session.accepted(response, now)
        if not self._ack_waits:
            invite.acknowledge(dialog, b"")
        branch = self.local_tag + (response.to.tag or "")
        self._seeker.on_answered(self, Answered(branch, response.body), now)

    def _stay_connected(self, invite: OutgoingInvite) -> None:
        """The connection of the INVITE goes on when the dialog leads to its peer, whose
        Contact need be no name of its certificate."""
        if invite.tx is None or not invite.tx.hop.reliable or self.dialog is None:
            return
        hop = invite.tx.hop
        if self.dialog.next_hop_uri().host.lower() in (hop.host, hop.name):
            self.reuse = hop

    def on_refused(self, status: int, response: Response | None, now: float) -> None:
        if self.dialog is not None:
            return  # another branch was answered
        if status == 422 and response is not None and self._ask_for_longer(response):
            return
        cancelled = self.invite is not None and self.invite.cancelled
        self.leave()
        if not cancelled:
            self._seeker.on_refused(self, status, response, now)

    def leave(self) -> None:
        super().leave()
        if self.abandoned:
            self.let_go()  # nobody else will

    def let_go(self) -> None:
        super().let_go()
        if self.invite is not None:
            self.invite.tx = None  # the transaction keeps the invite, for a late 2xx
            self.invite = None

    def _ask_for_longer(self, response: Response) -> bool:
        """The callee's Min-SE is more than we asked for: once more (RFC 4028 section 7.3)."""
        refused, hop = self.invite, self.hop
        if refused is None or refused.cancelled or hop is None or self._grown:
            return False
        if not self.session.grow(response):
            return False
        self._grown = True
        headers = refused.request.headers.copy()
        for name in ("Via", "Authorization", "Proxy-Authorization"):
            headers.remove(name)
        headers.set("CSeq", f"{refused.request.cseq.number + 1} INVITE")
        for name, value in self.session.offered():
            headers.set(name, value)
        again = Request("INVITE", refused.request.uri, headers, refused.request.body)
        self.invite = OutgoingInvite(self, again, self)
        self.request(again, hop, None, self.invite)
        return True

    def _end_at_once(self, invite: OutgoingInvite, dialog: Dialog) -> None:
        """A 2xx that nobody wants: ACK, then BYE (RFC 3261 section 13.2.2.4)."""
        if self.dialog is None:
            self.dialog = dialog  # crossed our CANCEL: it becomes this leg's dialog
            self._stay_connected(invite)
            invite.acknowledge(dialog, b"")
            self.gone = False
            self.call.calls.remember(self, dialog.call_id, self.local_tag)
            super().hang_up()
            return
        kept, self.dialog = self.dialog, dialog  # a second branch of a fork
        invite.acknowledge(dialog, b"")
        self.send(dialog.request("BYE"), Discarded())
        self.dialog = kept


class EarlyDialog:
    """One branch of our INVITE before it is answered."""

    __slots__ = ("dialog", "offer", "rseq")

    def __init__(self) -> None:
        self.dialog: Dialog | None = None  # from the first reliable response on
        self.rseq: int | None = None  # of the last one in order
        self.offer: RAck | None = None  # a response with an offer that is not answered yet

"""One leg: a SIP dialog with a peer, and the requests that are pending in it.

`CallerLeg` and `CalleeLeg` add how a dialog comes to be; from the answer on they are alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.hiding import reasons
from relay.call.invite import IncomingInvite
from relay.call.midcall import MidCall
from relay.call.ports import Side, Signalling
from relay.call.refusal import refuse, unserved
from relay.call.session_timer import SessionTimer, glare_wait_s
from relay.errors import Refused, RemoteProtocolError
from relay.residency.boundary import Use
from relay.sip.dialog import Dialog
from relay.sip.message import Message, Request, Response
from relay.sip.transaction import Hop, Timers, Transaction
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.alarms import Alarms
    from relay.call.authorization import Login
    from relay.call.call import Call
    from relay.call.clients import Client

MID_CALL = frozenset({"INVITE", "UPDATE", "INFO"})


class Leg:
    """A dialog, our Contact in it, and the INVITE transactions under way."""

    __slots__ = (
        "_bye_reason",
        "alarms",
        "allow",
        "call",
        "call_id",
        "client",
        "contact",
        "dialog",
        "gone",
        "incoming",
        "infos",
        "keys",
        "local_tag",
        "login",
        "peer",
        "referred",
        "reuse",
        "session",
        "side",
        "signalling",
        "timers",
        "trail",
        "transport",
        "trunk",
        "uri",
    )

    def __init__(self, call: Call, side: Side, trunk: str, local_tag: str) -> None:
        self.call = call
        self.side = side
        self.trunk = trunk
        self.client: Client | None = None  # whose it is, when that is a voice client
        self.login: Login | None = call.calls.logins.get(trunk)
        self.local_tag = local_tag
        self.signalling: Signalling = call.calls.signalling
        self.trail = call.trail
        self.alarms: Alarms = call.calls.alarms
        self.timers: Timers = call.calls.timers
        self.dialog: Dialog | None = None
        self.allow = ""  # the peer's Allow
        calls = call.calls
        wanted_s = calls.router.peer(trunk).session_expires_s
        self.session = SessionTimer(self, wanted_s, calls.min_session_expires_s)
        self.contact = ""
        self.call_id = ""  # of its dialog
        self.transport = ""  # that its INVITE came or went over
        self.uri = ""  # that its INVITE went to
        self.peer = ""  # the address that its INVITE came from or went to
        self.reuse: Hop | None = None
        self.incoming: IncomingInvite | None = None
        self.gone = False
        self.referred = False  # has sent a REFER that was accepted
        self.infos = 0  # of its INFO requests, how many wait for the other leg's answer
        self.keys: set[tuple[str, str]] = set()  # (Call-ID, our tag) under which we are known
        self._bye_reason: str | None = None

    @property
    def waits_for_ack(self) -> bool:
        return self.incoming is not None and self.incoming.waits_for_ack

    @property
    def live(self) -> Dialog | None:
        """The dialog that requests go through now."""
        return self.dialog

    @property
    def owns_call_id(self) -> bool:
        """Whether the INVITE was ours."""
        return False

    @property
    def name(self) -> str:
        """ "caller" or "callee"."""
        return self.side.name.lower()

    def allows(self, method: str) -> bool:
        """Whether the peer has said that it takes this method."""
        return method in self.allow

    def glare_wait(self) -> float:
        """Seconds until a request of ours that got 491 is sent again."""
        return glare_wait_s(self.owns_call_id, self.call.calls.chance())

    # --- sending

    def respond(self, tx: Transaction, response: Response) -> None:
        self.signalling.respond(tx, response)

    def refuse(self, tx: Transaction, request: Request, status: int, text: str = "") -> None:
        self.signalling.respond(tx, refuse(request, status, self.local_tag, text))

    def send(self, request: Request, user: object) -> None:
        """A request in this leg's dialog."""
        assert self.live is not None
        self.request(request, self.live.next_hop_uri(), self.reuse, user)

    def request(
        self,
        request: Request,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        dialog: Dialog | None = None,
    ) -> None:
        """A request of this leg, with our credentials where its trunk wants them."""
        if self.login is None:
            self.signalling.request(request, target, reuse, user, self.may_use)
        else:
            self.login.request(
                request, target, reuse, user, dialog or self.live, self.call.id, self.may_use
            )

    def send_ack(self, ack: Request, dialog: Dialog | None = None) -> None:
        """In this leg's dialog, or in that of another branch."""
        dialog = dialog or self.dialog
        assert dialog is not None
        self.signalling.send(ack, dialog.next_hop_uri(), self.reuse, self.may_use)

    def may_use(self, use: Use, host: str, port: int) -> bool:
        """Whether the call may use this address; in a dialog it is known where it comes from."""
        if use is Use.SIGNALLING and (dialog := self.live) is not None:
            use = _leads(dialog)
        return self.trail.allows(self.side, use, host, port)

    def may_reach(self, dialog: Dialog) -> bool:
        """Whether the next hop of a dialog may be used, as far as it is an address."""
        return self.trail.may_reach(self.side, _leads(dialog), dialog.next_hop_uri())

    def admit(self, hop: Hop) -> None:
        """Before an INVITE goes there. Raises Refused."""
        if not self.trail.allows(self.side, Use.SIGNALLING, hop.host, hop.port):
            raise Refused(403, "its address is outside the region")

    def hang_up(self, reason: str = "") -> None:
        """BYE; after our 2xx only once its ACK came or is given up (RFC 3261 section 15)."""
        if self.gone:
            return
        self.session.stop()
        if self.dialog is None:
            self.leave()
        elif self.waits_for_ack:
            self._bye_reason = reason
        else:
            bye = self.dialog.request("BYE")
            if reason:
                bye.headers.add("Reason", reason)
            self.send(bye, Bye(self))

    def leave(self) -> None:
        """Nothing more can come in this dialog."""
        if not self.gone:
            self.gone = True
            self.session.stop()
            self.call.calls.forget(self)

    def let_go(self) -> None:
        """The call is over on both sides: what refers back to this leg is dropped."""
        self.incoming = None
        self.session.let_go()

    # --- the ACK to a 2xx of ours

    def acknowledged(self) -> bool:
        """An ACK came: true when a BYE had been waiting for it."""
        if self._bye_reason is None:
            return False
        reason, self._bye_reason = self._bye_reason, None
        self.hang_up(reason)
        return True

    # --- receiving

    def is_from_peer(self, request: Request) -> bool:
        """Both tags make a dialog (RFC 3261 section 12.2.2): all of a fork know ours."""
        return self.dialog is None or request.from_.tag == self.dialog.remote_tag

    def on_request(self, tx: Transaction, request: Request, now: float) -> None:
        """A request in this leg's dialog, except ACK and CANCEL."""
        if self.dialog is None:
            self.on_early_request(tx, request, now)
            return
        try:
            self.dialog.receive(request)
        except RemoteProtocolError as error:
            self.refuse(tx, request, error.status_hint, str(error))
            return
        if request.method == "BYE":
            self.on_bye(tx, request, now)
        elif not self.call.has(self) or request.method == "NOTIFY":
            self.refuse(tx, request, 481)  # we subscribe to nothing
        elif request.method == "REFER":
            self.call.calls.on_refer(self, tx, request, now)
        elif request.method in MID_CALL:
            MidCall.begin(self, tx, request, now)
        elif request.method == "PRACK":
            self.on_prack(tx, request, now)
        elif request.method == "OPTIONS":
            self.respond(tx, self.call.calls.capabilities(request, self.local_tag))
        else:
            self.refuse(tx, request, unserved(request.method))

    def on_early_request(self, tx: Transaction, request: Request, now: float) -> None:
        """Before the dialog is confirmed only an UPDATE can change anything."""
        if request.method == "UPDATE" and self.call.has(self):
            MidCall.begin(self, tx, request, now)
        else:
            self.refuse(tx, request, 481)

    def on_prack(self, tx: Transaction, request: Request, now: float) -> None:
        """Only a caller has reliable responses of ours."""
        self.refuse(tx, request, 481)

    def refresh_target(self, message: Message) -> None:
        """A peer's Contact moves; not to where the region ends."""
        dialog = self.live
        contact = message.contact
        if dialog is None or contact is None:
            return
        if dialog.route_set or self.trail.may_reach(self.side, Use.CONTACT, contact.uri):
            dialog.refresh_target(message)
        else:
            self.call.calls.counters["targets_outside"] += 1

    def on_bye(self, tx: Transaction, request: Request, now: float) -> None:
        self.respond(tx, request.response(200, to_tag=self.local_tag))
        if self.incoming is not None and self.incoming.waits_for_ack:
            self.incoming.give_up()
        if self.call.has(self):
            self.call.hung_up(self, reasons(request), now)
        self.leave()

    def receive_ack(self, request: Request, now: float) -> None:
        """The ACK to a 2xx of ours, perhaps repeated."""
        if self.incoming is not None:
            self.incoming.on_ack(request, now)


def _leads(dialog: Dialog) -> Use:
    return Use.ROUTE if dialog.route_set else Use.CONTACT


class Bye:
    """Our BYE: whatever the answer, the dialog is over (RFC 3261 section 15.1.1)."""

    __slots__ = ("_leg",)

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status >= 200:
            self._leg.leave()

    def on_no_response(self, status: int, now: float) -> None:
        self._leg.leave()

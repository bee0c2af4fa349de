"""All calls of this node: who may call, and to which call a request belongs."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from relay.call.alarms import Alarms
from relay.call.authorization import Login
from relay.call.call import Call
from relay.call.clients import Client, Clients
from relay.call.devices import device
from relay.call.events import Lost, Referred
from relay.call.guard import Guard
from relay.call.health import Health
from relay.call.hiding import reasons
from relay.call.invite import Discarded, IncomingInvite
from relay.call.numbers import user_of
from relay.call.outside import Outside
from relay.call.ports import (
    Journal,
    Media,
    MediaEvent,
    Recorder,
    RecordingEnded,
    Records,
    Signalling,
)
from relay.call.record import Bookkeeping, Place, closed
from relay.call.refusal import ALLOW, refusal, refuse, status_of, unserved
from relay.call.registrar import Registrar
from relay.call.setup import set_up
from relay.call.transfer import Transfer
from relay.config import Limits
from relay.errors import MalformedMessage, Refused, RelayError
from relay.residency.boundary import Boundary
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from relay.sip.session_timer import SMALLEST_S
from relay.sip.transaction import Hop, Timers, Transaction

if TYPE_CHECKING:
    from relay.call.admission import Admission
    from relay.call.authentication import Authentication
    from relay.call.fork import Fork
    from relay.call.leg import Leg
    from relay.call.registrar import Binding
    from relay.call.registration import Registration
    from relay.call.router import Router
    from relay.call.token_check import TokenCheck
    from relay.config import Credential, Trunk


SIPS_PORT = 5061
# What crosses from leg to leg in an INVITE beside identities (`relay.call.identity`) and
# what `sip.pass_headers` lists; everything else stays (topology hiding).
PASSED_ON = ("priority", "date", "user-to-user", "accept-language")


def _is_at(host: str, source: str) -> bool:
    """Whether a URI's host is this address; IPv6 has many spellings."""
    if host == source or ":" not in host:
        return host == source
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(source)
    except ValueError:
        return False


def _check_secure(trunk: Trunk, source: Hop) -> None:
    """Raises Refused for plain signalling from a trunk that is to be secure."""
    if trunk.secure and source.transport != "tls":
        raise Refused(
            403, f"trunk {trunk.name} is secure: signal over TLS (sips, port {SIPS_PORT})"
        )


class Calls:
    """Where a request that belongs to no transaction finds its call, or starts one."""

    def __init__(
        self,
        router: Router,
        admission: Admission,
        media: Media,
        recorder: Recorder,
        records: Records,
        journal: Journal,
        token: Callable[[], str],
        wall_clock: Callable[[], datetime],
        boundary: Boundary,
        place: Place,
        timers: Timers | None = None,
        ring_timeout_s: float = 180.0,
        pass_headers: Sequence[str] = (),
        limits: Limits | None = None,
        own: tuple[str, ...] = (),
        authentication: Authentication | None = None,
        token_check: TokenCheck | None = None,
        ours: Mapping[str, Credential] | None = None,
        min_session_expires_s: int = SMALLEST_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`ours` are our credentials by the trunk that they are for. `own` are this node's
        addresses, which are never banned. `chance` gives 0 ≤ x < 1 for random waits."""
        self.router = router
        self.authentication = authentication
        self.token_check = token_check
        self.admission = admission
        self.media = media
        self.recorder = recorder
        self.kept = Bookkeeping(records, place)
        self.journal = journal
        self.token = token
        self.wall_clock = wall_clock
        self.boundary = boundary
        self.counters: Counter[str] = Counter()
        self.outside = boundary.on_outside = Outside(journal, self.counters, wall_clock)
        self.timers = timers or Timers()
        self.ring_timeout_s = ring_timeout_s
        self.passed_on = frozenset((*PASSED_ON, *(name.lower() for name in pass_headers)))
        self.min_session_expires_s = min_session_expires_s
        self.chance = chance
        self.signalling: Signalling  # set by the endpoint that owns the transactions
        self.alarms = Alarms()
        self.guard = Guard(limits or Limits(), own, router, journal, self.alarms, wall_clock)
        self.logins = {
            trunk: Login(trunk, credential, self) for trunk, credential in (ours or {}).items()
        }
        self.registrations: tuple[Registration, ...] = ()
        self.clients = Clients()
        self.registrar = Registrar(self)
        self.health = Health(self)
        self.ringing: dict[tuple[str, str], list[Fork]] = {}  # by account and identity
        self.stopping = False
        self.active: dict[str, Call] = {}
        self._legs: dict[tuple[str, str], Leg] = {}
        self._placed: dict[str, str] = {}

    # --- from the endpoint

    def identify(self, source: Hop) -> Trunk | None:
        """Whose address this is, or whose certificate is at the other end.

        What comes over a WebSocket is a voice client's, whatever its address.
        """
        if source.is_websocket:
            return None
        if source.transport != "tls":
            return self.router.identify(source.host)
        return self.router.identify(source.host, self.signalling.peer_names(source))

    def uses(self, connection: Hop) -> bool:
        """Whether a call, or a registered voice client, would miss this connection."""
        link = connection.link
        return self.registrar.is_on(connection) or any(
            leg.reuse is not None and leg.reuse.link == link for leg in self._legs.values()
        )

    def keeps(self, connection: Hop) -> float:
        """For how long what is for a connection that was lost waits, in seconds."""
        client = self.clients.of(connection)
        return client.account.reconnect_s if client and self.uses(connection) else 0.0

    def on_flow_lost(self, connection: Hop, now: float) -> None:
        """A voice client's connection is gone, and it has not come back on another one."""
        for leg in self._on(connection):
            if leg.call.has(leg):
                text = f"the {leg.name}'s connection was lost and did not come back"
                leg.call.feed(Lost(leg.side, text), now)
        self.clients.lost(connection)
        self.registrar.lost(connection)

    def move(self, old: Hop, new: Hop) -> None:
        """A voice client is on another connection now: its calls go on over that one."""
        for leg in self._on(old):
            leg.reuse = new
        self.signalling.move(old, new)
        self.clients.lost(old)

    def on_registered(self, binding: Binding, now: float) -> None:
        """Another device of a client: a call that rings on the others rings there, too."""
        if binding.may_be_called:
            for fork in self.ringing.get((binding.account, binding.identity), [])[:]:
                fork.join(device(binding), now)

    def _on(self, connection: Hop) -> list[Leg]:
        """The legs whose peer is at the other end of a connection."""
        link = connection.link
        return [leg for leg in {*self._legs.values()} if leg.reuse and leg.reuse.link == link]

    def revoke(self, account: str, ids: Collection[str], now: float) -> None:
        """Tokens with these ids, and no others of `account`, are not taken any more."""
        over = frozenset(ids)
        if self.token_check is not None:
            self.token_check.tokens.revoke(account, over)
        self.clients.end(over, account, now)
        self.registrar.revoke(account, over)

    def has_dialog(self, request: Request) -> bool:
        """Whether a request is in a dialog of ours, whoever sent it."""
        return self._leg(request) is not None

    def is_peer(self, request: Request, source: Hop) -> bool:
        """Whether a request is from the peer of the dialog that it is in."""
        leg = self._leg(request)
        return leg is not None and self._may_use(leg, source)

    def on_request(self, tx: Transaction, request: Request, source: Hop, now: float) -> None:
        """A request other than ACK and CANCEL that started a server transaction.

        `tx.user` is the trunk or the `Client` that it is from, None for a dialog's peer at
        another address.
        """
        try:
            if request.to.tag is not None:
                self._in_dialog(tx, request, source, now)
            else:
                self._out_of_dialog(tx, request, source, now)
        except RelayError as error:
            self.signalling.respond(tx, refusal(request, error, self.token()))
            self._count_refusal(request, error, source)

    def on_ack(self, request: Request, source: Hop, now: float) -> None:
        """The ACK to a 2xx; one that fits nothing is ignored (RFC 3261 section 17)."""
        leg = self._leg(request)
        if leg is not None and self._may_use(leg, source):
            leg.receive_ack(request, now)

    def on_cancel(self, invite: Transaction, cancel: Request, now: float) -> None:
        """A CANCEL, already answered, of an INVITE that still waits for its final response."""
        if isinstance(invite.user, IncomingInvite):
            invite.user.on_cancel(now, reasons(cancel))

    def on_late_answer(self, response: Response, source: Hop, now: float) -> None:
        """A 2xx to an INVITE whose transaction is gone: ACK, and BYE unless its call is up
        (RFC 3261 section 13.2.2.4). Only between addresses of one trunk, or over a client's own
        connection: nobody is to aim these at another."""
        try:
            dialog = Dialog.of_late_answer(response)
            target = dialog.next_hop_uri()
        except MalformedMessage:
            return
        reuse, client = None, self.clients.of(source)
        trunk = self.identify(source)
        if source.is_websocket and client is not None:
            reuse, name = source, client.account.name
        elif trunk is not None and self.router.at(target.host) is trunk:
            name = trunk.name
        else:
            return
        if not self.guard.answers_late(name, now):
            return
        self.counters["late_answers"] += 1
        self.signalling.send(dialog.ack(response.cseq.number), target, reuse)
        leg = self._legs.get((dialog.call_id, dialog.local_tag or ""))
        known = leg.dialog if leg is not None else None
        if known is None or known.remote_tag != dialog.remote_tag:
            self.signalling.request(dialog.request("BYE"), target, reuse, Discarded())

    def on_media(self, call_id: str, event: MediaEvent, now: float) -> None:
        """What the engine saw on a call."""
        if (call := self.active.get(call_id)) is not None:
            call.on_media(event, now)

    def on_recording_ended(self, ended: RecordingEnded) -> None:
        """A recording is on disk, or is not: an event either way."""
        call = self.active.get(ended.call_id)
        if call is None:
            self.kept.recorded(ended)
        elif call.notes.recording is not None:
            call.notes.recording = closed(call.notes.recording, ended)
            self.kept.keep(call.notes.so_far(call))
        name = "recording_saved" if ended.problem is None else "recording_failed"
        self.counters[name] += 1
        self.journal.event(
            name,
            ended.call_id,
            path=ended.path,
            duration_s=round(ended.duration_s, 3),
            problem=ended.problem,
        )

    # --- from the legs

    def on_refer(self, leg: Leg, tx: Transaction, request: Request, now: float) -> None:
        """A leg asks for the transfer of its call."""
        try:
            transfer = Transfer(leg, request, now)
        except RelayError as error:
            response = refusal(request, error, leg.local_tag)
            self.signalling.respond(tx, response)
            self.counters["transfers_refused"] += 1
            self.journal.event(
                "transfer_refused", leg.call.id, status=response.status, text=str(error)
            )
            return
        accepted = request.response(202, to_tag=leg.local_tag)
        accepted.headers.add("Contact", leg.contact)
        if not transfer.told:
            accepted.headers.add("Refer-Sub", "false")
        self.signalling.respond(tx, accepted)
        leg.call.feed(Referred(transfer), now)

    def remember(self, leg: Leg, call_id: str, local_tag: str) -> None:
        """Requests to this dialog identifier go to `leg`."""
        self._legs[call_id, local_tag] = leg
        leg.keys.add((call_id, local_tag))

    def placed(self, invite: Request) -> None:
        """Remember an INVITE of ours, so that it is known when it comes back."""
        self._placed[invite.call_id] = user_of(invite.uri)

    def forget(self, leg: Leg) -> None:
        for key in leg.keys:
            self._legs.pop(key, None)
            self._placed.pop(key[0], None)
        leg.keys.clear()
        leg.call.let_go()

    def ended(self, call: Call) -> None:
        self.active.pop(call.id, None)
        self.admission.release(call.admitted)
        call.let_go()

    def session_id(self) -> int:
        """A fresh number for the o= line (RFC 8866 section 5.2)."""
        return int(self.token()[:12], 16)

    def is_loop(self, request: Request) -> bool:
        """Our own INVITE came back for the same number (RFC 5393 section 4.2).

        Back for another number is a spiral; Max-Forwards bounds that.
        """
        placed = self._placed.get(request.call_id)
        return placed is not None and placed == user_of(request.uri)

    @property
    def dialogs(self) -> int:
        """Dialog identifiers that requests may come in; early ones, and those that end, too."""
        return len(self._legs)

    @property
    def idle(self) -> bool:
        """No call, no dialog that waits for the answer to its BYE, and no registration."""
        waiting = any(registration.pending for registration in self.registrations)
        return not self.active and not self._legs and not waiting

    def capabilities(self, request: Request, to_tag: str) -> Response:
        """200 to OPTIONS (RFC 3261 section 11.2)."""
        response = request.response(200, to_tag=to_tag)
        response.headers.add("Allow", ALLOW)
        response.headers.add("Accept", "application/sdp")
        return response

    # --- inside

    def _leg(self, request: Request) -> Leg | None:
        """The leg in whose dialog a request is."""
        leg = self._legs.get((request.call_id, request.to.tag or ""))
        return leg if leg is not None and leg.is_from_peer(request) else None

    def _in_dialog(self, tx: Transaction, request: Request, source: Hop, now: float) -> None:
        leg = self._leg(request)
        if leg is None:
            raise Refused(481, "no such call")
        if not self._may_use(leg, source):
            raise Refused(403, "")
        if source.reliable:
            leg.reuse = source  # it may have connected anew
        leg.on_request(tx, request, now)

    def _out_of_dialog(self, tx: Transaction, request: Request, source: Hop, now: float) -> None:
        trunk = tx.user
        if trunk is None:
            raise Refused(403, "")
        if isinstance(trunk, Client):
            self._of_client(tx, request, source, trunk, now)
            return
        _check_secure(trunk, source)
        if request.method == "INVITE":
            set_up(self, tx, request, source, trunk, now)
        elif request.method == "OPTIONS":
            self.signalling.respond(tx, self.capabilities(request, self.token()))
        elif request.method in ("REFER", "NOTIFY"):
            raise Refused(403, f"{request.method} is served inside a call only")
        else:
            status = unserved(request.method)
            self.signalling.respond(tx, refuse(request, status, self.token()))

    def _of_client(
        self, tx: Transaction, request: Request, source: Hop, client: Client, now: float
    ) -> None:
        if request.method == "REGISTER":
            self.registrar.on_register(tx, request, source, client, now)
        elif request.method == "INVITE":
            if not client.may_call_out:
                raise Refused(403, "this access token does not allow calls (out)")
            set_up(self, tx, request, source, client, now)
        elif request.method == "OPTIONS":
            self.signalling.respond(tx, self.capabilities(request, self.token()))
        else:
            status = unserved(request.method)
            self.signalling.respond(tx, refuse(request, status, self.token()))

    def _may_use(self, leg: Leg, source: Hop) -> bool:
        """Who may speak in a dialog: its trunk's addresses, those that its INVITE came from or
        went to, and where the peer's Contact points; in a voice client's its connection, or
        another one of the same client."""
        if leg.client is not None or source.is_websocket:
            return self._is_client_of(leg, source)
        if source.transport != "tls" and self.router.peer(leg.trunk).secure:
            return False
        trunk = self.identify(source)
        if trunk is not None and trunk.name == leg.trunk:
            return True
        if source.host == leg.peer:
            return True
        if leg.dialog is None:
            return False
        place = leg.dialog.next_hop_uri().host
        return _is_at(place, source.host) or self.signalling.leads_to(place, source.host)

    def _is_client_of(self, leg: Leg, source: Hop) -> bool:
        """Its token may have expired meanwhile: a call outlives it."""
        if leg.client is None or not source.is_websocket:
            return False
        if leg.reuse is not None and leg.reuse.link == source.link:
            return True
        other = self.clients.of(source)
        return other is not None and other.is_same(leg.client)

    def _count_refusal(self, request: Request, error: RelayError, source: Hop) -> None:
        status = status_of(error)
        self.counters[f"refused_{status}"] += 1
        if request.method == "INVITE" and request.to.tag is None:
            self.journal.event(
                "call_refused", "-", status=status, text=str(error), source=source.host
            )

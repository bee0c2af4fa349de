"""One side of one call of the soak: places or takes it, and does what its plan says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.soak_plan import TRANSFERRED
from relay.errors import MalformedMessage, RemoteProtocolError
from relay.sip.dialog import Dialog
from relay.sip.digest import Challenge, best, ha1
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.transaction import InviteClientTransaction, Transaction

if TYPE_CHECKING:
    from bench.soak_peer import Peer
    from bench.soak_plan import Plan

_PORT = re.compile(rb"^m=audio (\d+)", re.M)
_DIRECTION = re.compile(rb"^a=(sendonly|recvonly|inactive)", re.M)
ANSWERS = {b"sendonly": "recvonly", b"recvonly": "sendonly", b"inactive": "inactive"}
GIVE_UP_S = 32.0
SESSION = "90;refresher=uas"  # RFC 4028: the relay is the one who refreshes
Then = Callable[[Response | None], None]


class Phone:
    """A dialog with the relay; `plan` is None for a call that a transfer made."""

    def __init__(self, peer: Peer, plan: Plan | None, side: int) -> None:
        self.peer = peer
        self.plan = plan
        self.side = side
        self.dialog: Dialog | None = None
        self.tx: Transaction | None = None
        self.call_id = ""
        self.cancelled = self.ended = False
        self._invite: Request | None = None
        self._acks: dict[tuple[str, int], Request] = {}
        self._waiting: set[int] = set()  # CSeq of our 2xx that have had no ACK
        self._version = 0
        if plan is not None:
            plan.phones.append(self)

    # --- placing a call

    def place(self, number: str) -> None:
        plan, peer = self.plan, self.peer
        assert plan is not None
        fields = [
            ("Max-Forwards", "70"),
            ("From", f"<sip:{peer.number}@{peer.host}>;tag={peer.token()}"),
            ("To", f"<sip:{number}@{peer.relay.host}>"),
            ("Call-ID", peer.token()),
            ("CSeq", "1 INVITE"),
            ("Contact", peer.contact),
            ("Supported", "100rel, timer"),
            ("Session-Expires", SESSION),
        ]
        body = b"" if plan.delayed_offer else self.sdp()
        self._invite = _with_body(
            Request("INVITE", f"sip:{number}@{peer.relay.host}", Headers(fields)), body
        )
        self.call_id = self._invite.call_id
        peer.phones[self.call_id] = self
        self.tx = self.send(self._invite, self._on_invite)
        if plan.outcome == "cancelled":
            peer.later(plan.cancel_s, self._cancel)

    def _cancel(self) -> None:
        self.cancelled = True
        if isinstance(self.tx, InviteClientTransaction):
            self.peer.cancel(self.tx)

    def _on_invite(self, response: Response | None) -> None:
        if response is None or response.status >= 300:
            self.end()
        elif response.status < 200:
            self._on_progress(response)
        else:
            self._on_accepted(response)

    def _on_progress(self, response: Response) -> None:
        """A reliable 18x is acknowledged (RFC 3262); one that crossed a CANCEL as well."""
        sequence = response.headers.get("RSeq")
        if sequence is not None and self._invite is not None and response.to.tag:
            if self.dialog is None:
                self.dialog = Dialog.uac(self._invite, response)
            prack = self.dialog.request("PRACK")
            prack.headers.add("RAck", f"{sequence} {response.cseq.number} INVITE")
            self.send(prack)
        if self.cancelled:
            self._cancel()

    def _on_accepted(self, response: Response) -> None:
        plan, key = self.plan, (response.to.tag or "", response.cseq.number)
        assert plan is not None and self._invite is not None
        if key in self._acks:
            self.peer.send(self._acks[key])
            return
        dialog = Dialog.uac(self._invite, response)
        dialog.local_cseq = max(
            dialog.local_cseq, self.dialog.local_cseq if self.dialog is not None else 0
        )
        self.dialog = dialog
        if plan.outcome == "unacknowledged":
            self.peer.count("unacknowledged")
            return
        self.acknowledge(response, plan.delayed_offer)
        self.peer.play(response.body)
        self.peer.count("answered")
        if self.cancelled:
            self.bye()
        else:
            self.peer.run_events(plan)

    def acknowledge(self, response: Response, delayed: bool) -> None:
        assert self.dialog is not None
        ack = _with_body(self.dialog.ack(response.cseq.number), self.sdp() if delayed else b"")
        self._acks[response.to.tag or "", response.cseq.number] = ack
        self.peer.send(ack)

    # --- taking a call

    def take(self, tx: Transaction, request: Request) -> None:
        self.tx, plan = tx, self.plan
        tx.user = self
        self.call_id = request.call_id
        self.peer.phones[self.call_id] = self
        outcome = plan.outcome if plan is not None else "answered"
        if plan is not None and outcome == "unavailable" and plan.attempts > 1:
            outcome = "answered"
        if outcome in ("busy", "declined", "unavailable"):
            status = {"busy": 486, "declined": 603, "unavailable": 503}[outcome]
            self.peer.later(plan.ring_s if plan else 0.0, self.reject, tx, request, status)
            return
        self.peer.later(plan.ring_s if plan else 0.0, self._ring, tx, request)
        if outcome != "never answered":
            self.peer.later(plan.answer_s if plan else 0.1, self._answer, tx, request)
        else:
            self.peer.later(2.0, self.reject, tx, request, 480)

    def reject(self, tx: Transaction, request: Request, status: int) -> None:
        if not self.ended and self.dialog is None:
            self.reply(tx, request, status)
            self.end()

    def on_cancel(self, tx: Transaction) -> None:
        if not self.ended and self.dialog is None:
            self.reply(tx, tx.request, 487)
            self.end()

    def _ring(self, tx: Transaction, request: Request) -> None:
        if self.ended or self.dialog is not None:
            return
        plan = self.plan
        early = plan is not None and plan.early_media and bool(request.body)
        fields: list[tuple[str, str]] = []
        supported = ",".join(request.headers.all("Supported"))
        if plan is not None and plan.reliable and "100rel" in supported:
            fields = [("Require", "100rel"), ("RSeq", "1")]
        self.reply(tx, request, 183 if early else 180, self.sdp() if early else b"", fields)

    def _answer(self, tx: Transaction, request: Request) -> None:
        if not self.ended:
            self.dialog = Dialog.uas(request, self.peer.tag_of(request), self.peer.contact)
            self.accept(tx, request, self.sdp())
            self.peer.play(request.body)
            if self.plan is None:
                self.peer.later(0.5, self.bye)

    def accept(self, tx: Transaction, request: Request, body: bytes) -> None:
        """2xx, repeated until its ACK (RFC 3261 section 13.3.1.4)."""
        response = self.reply(tx, request, 200, body)
        number = request.cseq.number
        self._waiting.add(number)
        self._repeat(tx, response, number, 0.5, 0.5)

    def _repeat(
        self, tx: Transaction, response: Response, number: int, gap_s: float, total_s: float
    ) -> None:
        def again() -> None:
            if number not in self._waiting or self.ended:
                return
            if total_s >= GIVE_UP_S:
                self._waiting.discard(number)
                self.bye()
                return
            self.peer.respond(tx, response)
            self._repeat(tx, response, number, min(2 * gap_s, 4.0), total_s + gap_s)

        self.peer.later(gap_s, again)

    def on_ack(self, request: Request) -> None:
        self._waiting.discard(request.cseq.number)

    # --- in the dialog

    def on_request(self, tx: Transaction, request: Request) -> None:
        method = request.method
        if self.dialog is not None:
            try:
                self.dialog.receive(request)
            except RemoteProtocolError:
                self.reply(tx, request, 500)
                return
        if method == "BYE":
            self.reply(tx, request, 200)
            self.end()
        elif method == "INVITE":
            self._on_reinvite(tx, request)
        elif method == "UPDATE":
            self.reply(tx, request, 200, self._answer_to(request.body) if request.body else b"")
        elif method in ("INFO", "OPTIONS", "NOTIFY", "PRACK"):
            self.reply(tx, request, 200)
        elif method == "REFER":
            self.reply(tx, request, 202)
        else:
            self.reply(tx, request, 405)

    def _on_reinvite(self, tx: Transaction, request: Request) -> None:
        tx.user = self
        draw = self.peer.random.random()
        if draw < 0.1 or self.dialog is None:
            self.reply(tx, request, 488 if draw < 0.05 else 491)
            return
        body = self._answer_to(request.body) if request.body else self.sdp()
        self.dialog.refresh_target(request)

        def go() -> None:
            if not self.ended and tx not in self.peer.cancelled:
                self.accept(tx, request, body)

        self.peer.later(0.0 if draw < 0.6 else self.peer.random.uniform(0.0, 0.3), go)

    def reinvite(self, body: bytes, cancel_s: float | None = None) -> None:
        if self.dialog is None or self.ended:
            return
        request = _with_body(self.dialog.request("INVITE"), body)
        request.headers.add("Supported", "timer")
        request.headers.add("Session-Expires", SESSION)
        done: set[tuple[str, int]] = set()

        def then(response: Response | None) -> None:
            if response is None or not 200 <= response.status < 300 or self.dialog is None:
                return
            key = (response.to.tag or "", response.cseq.number)
            if key in done:
                self.peer.send(self._acks[key])
                return
            done.add(key)
            self.acknowledge(response, not body)

        tx = self.send(request, then)
        if cancel_s is not None and isinstance(tx, InviteClientTransaction):
            self.peer.later(cancel_s, self.peer.cancel, tx)

    def bye(self) -> None:
        if self.dialog is not None and not self.ended:
            self.send(self.dialog.request("BYE"), lambda response: self.end())
            self.ended = True

    def end(self) -> None:
        self.ended = True
        self.peer.forget(self)

    # --- sending

    def send(self, request: Request, then: Then | None = None) -> Transaction:
        """In a transaction; a challenge is answered once, with the next CSeq."""

        def on_response(response: Response | None) -> None:
            if response is not None and response.status in (401, 407) and self.peer.password:
                self._send_again(request, response, then)
            elif then is not None:
                then(response)

        return self.peer.request(request, on_response)

    def _send_again(self, request: Request, response: Response, then: Then | None) -> None:
        name, field = (
            ("Proxy-Authorization", "Proxy-Authenticate")
            if response.status == 407
            else ("Authorization", "WWW-Authenticate")
        )
        values = ", ".join(response.headers.all(field))
        challenge = best(Challenge.parse(values))[0]
        key = ha1(challenge.algorithm, self.peer.number, challenge.realm, self.peer.password)
        answer = challenge.answer(
            self.peer.number, key, request.method, request.uri, 1, self.peer.token()
        )
        fields = [(n, v) for n, v in request.headers.items() if n != "Via" and n != name]
        again = Request(request.method, request.uri, Headers(fields), request.body)
        number = request.cseq.number + 1
        if self.dialog is not None:
            self.dialog.local_cseq = number = max(number, self.dialog.local_cseq + 1)
        again.headers.set("CSeq", f"{number} {request.method}")
        again.headers.add(name, str(answer))
        if request is self._invite:
            self._invite = again
        tx = self.peer.request(again, then or (lambda response: None))
        if request.method == "INVITE" and self.dialog is None:
            self.tx = tx
            if self.cancelled:
                self._cancel()

    def reply(
        self,
        tx: Transaction,
        request: Request,
        status: int,
        body: bytes = b"",
        fields: list[tuple[str, str]] | None = None,
    ) -> Response:
        response = request.response(status, to_tag=self.peer.tag_of(request))
        if status < 300:
            response.headers.add("Contact", self.peer.contact)
        if status == 200 and (asked := request.headers.get("Session-Expires")):
            response.headers.add("Require", "timer")
            response.headers.add("Session-Expires", f"{asked.split(';')[0]};refresher=uac")
        for name, value in fields or ():
            response.headers.add(name, value)
        if body:
            response.headers.add("Content-Type", "application/sdp")
            response.body = body
        self.peer.respond(tx, response)
        return response

    def sdp(self, direction: str = "sendrecv", host: str | None = None) -> bytes:
        self._version += 1
        peer = self.peer
        return (
            f"v=0\r\no=- 1 {self._version} IN IP4 {peer.host}\r\ns=-\r\n"
            f"c=IN IP4 {host or peer.host}\r\nt=0 0\r\nm=audio {peer.rtp_port} RTP/AVP 0 8 101\r\n"
            "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
            f"a={direction}\r\n"
        ).encode()

    def _answer_to(self, offer: bytes) -> bytes:
        found = _DIRECTION.search(offer)
        return self.sdp(ANSWERS[found[1]] if found else "sendrecv")

    # --- what a plan may call for

    def do(self, event: str) -> None:
        """One event of a plan, unless the call is over by now."""
        if self.ended or self.dialog is None:
            return
        self.peer.count(event)
        if event in _REINVITES:
            direction, host = _REINVITES[event]
            self.reinvite(self.sdp(direction, host))
        elif event == "empty re-INVITE":
            self.reinvite(b"")
        elif event == "re-INVITE of both" and self.plan is not None:
            for phone in self.plan.phones:
                phone.reinvite(phone.sdp())
        elif event == "CANCEL of re-INVITE":
            self.reinvite(self.sdp(), self.peer.random.uniform(0.0, 0.1))
        elif event == "broken SDP":
            self.reinvite(b"v=0\r\nm=audio nowhere\r\n")
        elif event == "garbage":
            self.peer.send_garbage(self.dialog.request("INFO"))
        elif event == "stray ACK":
            self.peer.send(self.dialog.ack(self.peer.random.randrange(1, 9)))
        else:
            self._request(event)

    def _request(self, event: str) -> None:
        assert self.dialog is not None
        method = {
            "empty UPDATE": "UPDATE",
            "stray PRACK": "PRACK",
            "unknown method": "DANCE",
            "BYE of another tag": "BYE",
        }.get(event, event)
        request = self.dialog.request(method)
        if event == "UPDATE":
            _with_body(request, self.sdp())
        elif event == "empty UPDATE":
            request.headers.add("Supported", "timer")
            request.headers.add("Session-Expires", SESSION)
        elif event == "INFO":
            request.headers.add("Content-Type", "application/dtmf-relay")
            request.body = b"Signal=5\r\nDuration=160\r\n"
        elif event == "REFER":
            number = TRANSFERRED + f"{self.peer.random.randrange(1000000):06d}"
            request.headers.add("Refer-To", f"<sip:{number}@{self.peer.relay.host}>")
        elif event == "stray PRACK":
            request.headers.add("RAck", "7 1 INVITE")
        elif event == "BYE of another tag":
            request.headers.set("To", (request.headers.get("To") or "").split(";tag=")[0])
            request.headers.set("To", f"{request.headers.get('To')};tag=guessed")
        self.send(request)


_REINVITES: dict[str, tuple[str, str | None]] = {
    "hold": ("sendonly", None),
    "inactive": ("inactive", None),
    "hold 0.0.0.0": ("sendrecv", "0.0.0.0"),
    "resume": ("sendrecv", None),
}


def _with_body(request: Request, body: bytes) -> Request:
    if body:
        request.headers.add("Content-Type", "application/sdp")
        request.body = body
    return request


def media_port(sdp: bytes) -> int | None:
    """The port of a description's audio."""
    found = _PORT.search(sdp)
    return int(found[1]) if found else None


def number_of(request: Request) -> str:
    """The called number of an INVITE. Raises MalformedMessage."""
    user = request.uri.partition(":")[2].rpartition("@")[0]
    if not user:
        raise MalformedMessage("no number")
    return user

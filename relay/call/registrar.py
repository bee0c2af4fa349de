"""Where voice clients are: the bindings of each identity (RFC 3261 section 10, RFC 5626, RFC 5627).

A binding is reached over the connection that it was registered on, never by what its Contact
says: a browser has no address of its own. It ends when its time is over, never later than the
token, and when its connection is lost for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from relay.call.contacts import Key, Wanted, asked_s, is_everything, key_of, wanted
from relay.errors import IntervalTooBrief, OutOfOrder, Refused
from relay.sip.options import supports
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.clients import Client
    from relay.sip.message import Request, Response
    from relay.sip.transaction import Hop, Transaction

LEAST_S = 60
SWEEP_S = 5.0  # so often those that are over are looked for
RETRY_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class Binding:
    """One device of an identity, and the connection that it is on.

    `instance` is the URN of +sip.instance, "" without; `gruu` is this device's own address
    (RFC 5627), "" when it did not ask for one. `until` is in monotonic seconds, and never later
    than the token's.
    """

    client: Client
    contact: SipUri
    instance: str
    hop: Hop
    q: float
    gruu: str
    until: float
    text: str = ""  # the Contact as it goes back to the client
    reg_id: int = 0
    call_id: str = ""
    cseq: int = 0

    @property
    def account(self) -> str:
        return self.client.account.name

    @property
    def identity(self) -> str:
        return self.client.identity

    @property
    def may_be_called(self) -> bool:
        return self.client.may_be_called

    @property
    def key(self) -> Key:
        return key_of(self.contact, self.instance, self.reg_id)

    def field(self, now: float) -> str:
        """As a Contact of the response."""
        gruu = f';pub-gruu="{self.gruu}"' if self.gruu else ""
        return f"{self.text or f'<{self.contact}>'};expires={max(0, int(self.until - now))}{gruu}"


Devices = dict[Key, Binding]


class Registrar:
    """The bindings of all identities. What a call needs is `bindings`."""

    def __init__(self, calls: Calls, flow_timer_s: float = 0.0) -> None:
        """`flow_timer_s` is how long a connection may be silent (RFC 5626 section 4.4.1)."""
        self._calls = calls
        self._flow_timer_s = flow_timer_s
        self._devices: dict[tuple[str, str], Devices] = {}
        self._at: dict[int, tuple[str, str]] = {}  # whose the devices on a connection are
        self._counts: dict[str, int] = {}  # of each account
        self._alarm = False

    # --- for calls

    def bindings(
        self, account: str, identity: str, now: float, instance: str = ""
    ) -> list[Binding]:
        """The devices of an identity that are registered now, the preferred (q) first.

        `instance` is the `gr` parameter of the address that was called, where it has one: that
        device only.
        """
        found = {
            each.instance or each.key: each  # of a device's connections (reg-id) the newest
            for each in self._devices.get((account, identity), {}).values()
            if now < each.until and instance in ("", each.instance)
        }
        return sorted(found.values(), key=lambda each: -each.q)

    def is_on(self, hop: Hop) -> bool:
        """Whether a device is reached over this connection."""
        return hop.link in self._at

    def figures(self) -> dict[str, int]:
        """How many devices each account has registered."""
        return {name: count for name, count in self._counts.items() if count}

    # --- REGISTER

    def outlasts(self, request: Request, client: Client, now: float) -> bool:
        """Whether it asks for longer than the token lasts. Raises MalformedMessage."""
        most = client.account.registration_s
        asked = min(most, max(asked_s(request, most), default=0))
        return now + asked > client.until

    def on_register(
        self, tx: Transaction, request: Request, source: Hop, client: Client, now: float
    ) -> None:
        """Change what it asks for, all or nothing, and answer with what is registered then.

        Raises RelayError; nothing is changed in that case.
        """
        to = request.to.uri
        if not isinstance(to, SipUri) or unquote(to.user or "") != client.identity:
            raise Refused(403, "To names another identity than the access token")
        name = (client.account.name, client.identity)
        self._forget_old(name, now)
        devices = self._devices.get(name, {})
        if is_everything(request):
            changes: dict[Key, Binding | None] = dict.fromkeys(devices)
        else:
            changes = {
                each.key: self._binding(each, request, source, client, now)
                for each in wanted(request, client.account.registration_s)
            }
        self._check(changes, devices, request, client)
        added = self._change(name, changes, source, now)
        self._calls.signalling.respond(tx, self._answer(request, name, now))
        for each in added:
            self._calls.on_registered(each, now)

    def _binding(
        self, each: Wanted, request: Request, source: Hop, client: Client, now: float
    ) -> Binding | None:
        """What is to be bound; None for nothing more. Raises IntervalTooBrief."""
        if each.expires_s == 0:
            return None
        if each.expires_s < LEAST_S:
            raise IntervalTooBrief(LEAST_S)
        lasts = min(each.expires_s, client.account.registration_s)
        gruu = ""
        if each.instance and supports(request, "gruu"):
            to = request.to.uri
            assert isinstance(to, SipUri)
            place = SipUri("sip", client.identity, None, to.host, to.port)
            gruu = f"{place};gr={each.instance}"
        until = min(now + lasts, client.until)
        return Binding(
            client,
            each.uri,
            each.instance,
            source,
            each.q,
            gruu,
            until,
            each.text,
            each.reg_id,
            request.call_id,
            request.cseq.number,
        )

    def _check(
        self,
        changes: dict[Key, Binding | None],
        devices: Devices,
        request: Request,
        client: Client,
    ) -> None:
        """Raises what speaks against it: its order, or a limit."""
        for key in changes:
            known = devices.get(key)
            if (
                known is not None
                and known.call_id == request.call_id
                and known.cseq >= request.cseq.number
            ):
                raise OutOfOrder("a REGISTER that came after a later one")
        account = client.account
        more = sum(key not in devices for key, new in changes.items() if new is not None)
        fewer = sum(key in devices for key, new in changes.items() if new is None)
        if more and len(devices) + more - fewer > account.contacts:
            raise Refused(403, f"an identity here has {account.contacts} devices at most")
        if more and self._counts.get(account.name, 0) + more - fewer > account.clients:
            raise Refused(503, "too many clients of this account are registered", RETRY_AFTER_S)

    def _change(
        self,
        name: tuple[str, str],
        changes: dict[Key, Binding | None],
        source: Hop,
        now: float,
    ) -> list[Binding]:
        """Carry it out; the devices that were not there before."""
        added: list[Binding] = []
        for key, new in changes.items():
            old = self._devices.get(name, {}).get(key)
            if new is None:
                if old is not None:
                    self._remove(name, key, "unregistered")
                continue
            self.bind(new, now)
            if old is None:
                added.append(new)
                self._calls.counters["client_registered"] += 1
                self._calls.journal.event("client_registered", "-", **_who(new))
            elif old.hop.link != source.link:
                self._move(old.hop, new)
        return added

    def _answer(self, request: Request, name: tuple[str, str], now: float) -> Response:
        response = request.response(200, to_tag=self._calls.token())
        headers = response.headers
        devices = self._devices.get(name, {}).values()
        for each in devices:
            headers.add("Contact", each.field(now))
        if any(each.reg_id for each in devices) and supports(request, "outbound"):
            headers.add("Require", "outbound")
            if self._flow_timer_s:
                headers.add("Flow-Timer", str(int(self._flow_timer_s)))
        return response

    # --- connections

    def _move(self, old: Hop, new: Binding) -> None:
        """A device has come back on another connection, and with it all that was on the old."""
        devices = self._devices[new.account, new.identity]
        for key, each in devices.items():
            if each.hop.link == old.link:
                devices[key] = replace(each, hop=new.hop)
        self._leave(old, devices)
        self._calls.move(old, new.hop)
        self._calls.counters["client_moved"] += 1
        self._calls.journal.event("client_moved", "-", **_who(new))

    def lost(self, hop: Hop) -> None:
        """The connection is gone for good: nobody is reached over it."""
        name = self._at.pop(hop.link, None)
        if name is not None:
            devices = self._devices[name]
            for key in [key for key, each in devices.items() if each.hop.link == hop.link]:
                self._remove(name, key, "connection lost")

    def revoke(self, account: str, is_over: frozenset[str]) -> None:
        """Those whose token is revoked are not reached any more."""
        for name in [name for name in self._devices if name[0] == account]:
            for key, each in list(self._devices[name].items()):
                if each.client.token_id in is_over:
                    self._remove(name, key, "token revoked")

    # --- time

    def on_timer(self, now: float) -> None:
        """Look for those that are over; `bindings` does not name them from their end on."""
        for name in list(self._devices):
            self._forget_old(name, now)
        self._alarm = bool(self._devices)
        if self._alarm:
            self._calls.alarms.set(self, now + SWEEP_S)

    def _forget_old(self, name: tuple[str, str], now: float) -> None:
        devices = self._devices.get(name, {})
        for key in [key for key, each in devices.items() if now >= each.until]:
            self._remove(name, key, "expired")

    # --- the store

    def bind(self, new: Binding, now: float) -> None:
        """This device is reached there from now on."""
        name = (new.account, new.identity)
        devices = self._devices.setdefault(name, {})
        old = devices.pop(new.key, None)
        devices[new.key] = new  # the last one: the newest
        self._at[new.hop.link] = name
        if old is None:
            self._counts[name[0]] = self._counts.get(name[0], 0) + 1
        else:
            self._leave(old.hop, devices)
        if not self._alarm:
            self._alarm = True
            self._calls.alarms.set(self, now + SWEEP_S)

    def _remove(self, name: tuple[str, str], key: Key, why: str) -> None:
        devices = self._devices[name]
        gone = devices.pop(key)
        self._counts[name[0]] -= 1
        self._leave(gone.hop, devices)
        if not devices:
            del self._devices[name]
        self._calls.counters["client_unregistered"] += 1
        self._calls.journal.event("client_unregistered", "-", **_who(gone), why=why)

    def _leave(self, hop: Hop, devices: Devices) -> None:
        """Perhaps nobody is on this connection any more."""
        if not any(each.hop.link == hop.link for each in devices.values()):
            self._at.pop(hop.link, None)


def _who(binding: Binding) -> dict[str, object]:
    """For the log, which masks identities like numbers."""
    return {
        "account": binding.account,
        "identity": binding.identity,
        "source": binding.hop.host,
    }

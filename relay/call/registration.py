"""Our registration at a carrier that wants to know where we are (RFC 3261 section 10.2).

One REGISTER at a time. It is refreshed well before it lapses; a failure is followed by waits
that double (RFC 5626 section 4.5), each at the next of the registrar's addresses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from relay.errors import MalformedMessage
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr, parse_number
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.calls import Calls
    from relay.config import Registration as Wanted

REFRESH_AT = 0.9  # of what was granted, minus up to JITTER of it
JITTER = 0.05
SHORTEST_S = 10.0  # a registrar that grants less is refreshed no more often
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 1800.0
LONGEST_S = 86400  # more than that is not asked for


class State(Enum):
    """Where a registration is."""

    UNREGISTERED = "Unregistered"
    REGISTERING = "Registering"
    REGISTERED = "Registered"
    REFRESHING = "Refreshing"
    FAILED = "Failed"  # waits before it tries again
    STOPPING = "Stopping"  # the answer to a REGISTER is awaited (RFC 3261 section 10.2)
    UNREGISTERING = "Unregistering"

    __hash__ = object.__hash__


class Event(Enum):
    """What happens to it."""

    START = "start"
    ACCEPTED = "2xx"
    TOO_BRIEF = "423"
    REFUSED = "failure, or none at all"
    DUE = "time"
    STOP = "stop"

    __hash__ = object.__hash__


class Action(Enum):
    """What a transition does."""

    REGISTER = "register"
    UNREGISTER = "unregister"
    WAIT_TO_REFRESH = "wait to refresh"
    WAIT_TO_RETRY = "wait to retry"
    DISARM = "stop waiting"
    TELL = "tell"

    __hash__ = object.__hash__


S, E, A = State, Event, Action
_REGISTERED = (S.REGISTERED, (A.WAIT_TO_REFRESH, A.TELL))
_FAILED = (S.FAILED, (A.WAIT_TO_RETRY, A.TELL))

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    # An absent pair is ignored: a late or repeated event changes nothing.
    (S.UNREGISTERED, E.START): (S.REGISTERING, (A.REGISTER,)),
    (S.REGISTERING, E.ACCEPTED): _REGISTERED,
    (S.REGISTERING, E.TOO_BRIEF): (S.REGISTERING, (A.REGISTER,)),
    (S.REGISTERING, E.REFUSED): _FAILED,
    (S.REGISTERING, E.STOP): (S.STOPPING, ()),
    (S.REGISTERED, E.DUE): (S.REFRESHING, (A.REGISTER,)),
    (S.REGISTERED, E.STOP): (S.UNREGISTERING, (A.DISARM, A.UNREGISTER)),
    (S.REFRESHING, E.ACCEPTED): _REGISTERED,
    (S.REFRESHING, E.TOO_BRIEF): (S.REFRESHING, (A.REGISTER,)),
    (S.REFRESHING, E.REFUSED): _FAILED,
    (S.REFRESHING, E.STOP): (S.STOPPING, ()),
    (S.FAILED, E.DUE): (S.REGISTERING, (A.REGISTER,)),
    (S.FAILED, E.STOP): (S.UNREGISTERED, (A.DISARM, A.TELL)),
    (S.STOPPING, E.ACCEPTED): (S.UNREGISTERING, (A.UNREGISTER,)),
    (S.STOPPING, E.TOO_BRIEF): (S.UNREGISTERED, (A.TELL,)),
    (S.STOPPING, E.REFUSED): (S.UNREGISTERED, (A.TELL,)),
    (S.UNREGISTERING, E.ACCEPTED): (S.UNREGISTERED, (A.TELL,)),
    (S.UNREGISTERING, E.TOO_BRIEF): (S.UNREGISTERED, (A.TELL,)),
    (S.UNREGISTERING, E.REFUSED): (S.UNREGISTERED, (A.TELL,)),
}


class Registration:
    """One trunk's; `local_cseq` counts its requests. A TransactionUser and an alarm's owner."""

    def __init__(
        self, trunk: str, wanted: Wanted, calls: Calls, chance: Callable[[], float] = random.random
    ) -> None:
        self.trunk = trunk
        self.state = State.UNREGISTERED
        self.local_cseq = 0
        self._calls = calls
        self._chance = chance
        self._registrar = SipUri.parse(wanted.registrar)
        self._user = wanted.user
        self._expires_s = wanted.expires_s
        self._call_id = calls.token() + calls.token()
        self._tag = calls.token()
        self._contact = ""
        self._failures = 0
        self._alarm: Alarm | None = None
        self._granted_s = 0
        self._wait_s = 0.0
        self._least_wait_s = 0.0  # what the last failure asked for
        self._problem = ""
        self._asked_longer = False
        self._told: tuple[State, str] | None = None

    @property
    def pending(self) -> bool:
        """A last answer is awaited before the node may stop."""
        return self.state in (State.STOPPING, State.UNREGISTERING)

    def feed(self, event: Event, now: float) -> None:
        """One event; the table says what follows."""
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            _ACTIONS[action](self, now)

    def start(self, now: float) -> None:
        self.feed(Event.START, now)

    def stop(self, now: float) -> None:
        self.feed(Event.STOP, now)

    def on_timer(self, now: float) -> None:
        self._alarm = None
        self.feed(Event.DUE, now)

    # --- the answer

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status < 200:
            return
        if response.status < 300:
            self._accepted(response, now)
        elif response.status == 423 and self._may_ask_longer(response):
            self.feed(Event.TOO_BRIEF, now)
        else:
            asked_s = _seconds(response, "Retry-After", LONGEST_WAIT_S)
            self._refused(str(response.status), now, asked_s or 0.0)

    def on_no_response(self, status: int, now: float) -> None:
        self._refused("no answer" if status == 408 else "it could not be sent", now)

    def _accepted(self, response: Response, now: float) -> None:
        try:
            granted = self._granted(response)
        except MalformedMessage:
            granted = None
        if self.state is State.UNREGISTERING:
            self.feed(Event.ACCEPTED, now)
        elif not granted:
            self._refused("the registrar did not keep our address", now)
        else:
            self._granted_s = granted
            self._failures, self._problem, self._asked_longer = 0, "", False
            self.feed(Event.ACCEPTED, now)

    def _granted(self, response: Response) -> int | None:
        """For how long, by our Contact in the answer, else by Expires, else what we asked for;
        None when others' addresses are listed and ours is not."""
        ours = NameAddr.parse(self._contact).uri
        listed = [NameAddr.parse(value) for value in response.headers.all("Contact")]
        mine = next((entry for entry in listed if ours.matches(entry.uri)), None)
        if listed and mine is None:
            return None
        text = mine.param("expires") if mine is not None else None
        text = text or response.headers.get("Expires")
        return parse_number(text, LONGEST_S, "Expires") if text else self._expires_s

    def _may_ask_longer(self, response: Response) -> bool:
        """423: Min-Expires says how long it has to be; once."""
        least = _seconds(response, "Min-Expires", LONGEST_S)
        if least is None or least <= self._expires_s or self._asked_longer:
            return False
        self._expires_s, self._asked_longer = int(least), True
        return True

    def _refused(self, why: str, now: float, least_wait_s: float = 0.0) -> None:
        self._failures += 1
        self._problem, self._least_wait_s = why, least_wait_s
        self.feed(Event.REFUSED, now)

    # --- actions

    def _register(self, now: float) -> None:
        self._send(self._expires_s)

    def _unregister(self, now: float) -> None:
        self._send(0)

    def _send(self, expires_s: int) -> None:
        def found(hops: tuple[Hop, ...], why: str, now: float) -> None:
            if not hops:
                self._refused(why, now)
                return
            self._send_to(hops[self._failures % len(hops)], expires_s)

        self._calls.signalling.locate(self._registrar, found)

    def _send_to(self, hop: Hop, expires_s: int) -> None:
        contact = NameAddr.parse(self._calls.signalling.contact(hop)).uri
        assert isinstance(contact, SipUri)
        self._contact = f"<{contact.replace(user=self._user)}>"
        self.local_cseq += 1
        whom = f"<{self._registrar.replace(user=self._user, port=None, params=())}>"
        fields = [
            ("Max-Forwards", "70"),
            ("From", f"{whom};tag={self._tag}"),
            ("To", whom),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self.local_cseq} REGISTER"),
            ("Contact", self._contact),
            ("Expires", str(expires_s)),
        ]
        uri = str(self._registrar.replace(params=()))
        request = Request("REGISTER", uri, Headers.of_canonical(fields))
        login = self._calls.logins.get(self.trunk)
        if login is not None:
            login.request(request, hop, None, self, self)
        else:
            self._calls.signalling.request(request, hop, None, self)

    def _wait_to_refresh(self, now: float) -> None:
        share = REFRESH_AT - JITTER * self._chance()
        self._wait(now, max(SHORTEST_S, share * self._granted_s))

    def _wait_to_retry(self, now: float) -> None:
        doubled = FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 16)
        delay = min(LONGEST_WAIT_S, doubled) * (0.5 + 0.5 * self._chance())
        self._wait(now, max(delay, self._least_wait_s))

    def _wait(self, now: float, delay_s: float) -> None:
        self._wait_s = delay_s
        self._alarm = self._calls.alarms.set(self, now + delay_s)

    def _stop_waiting(self, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _tell(self, now: float) -> None:
        """An event when something changed: a refresh that went well is none."""
        if self._told == (self.state, self._problem):
            return
        self._told = (self.state, self._problem)
        fields: dict[str, object] = {}
        if self.state is State.REGISTERED:
            fields["expires_s"] = self._granted_s
        elif self.state is State.FAILED:
            fields = {"problem": self._problem, "retry_s": round(self._wait_s, 1)}
        state = self.state.value.lower()
        self._calls.journal.event("registration", "-", trunk=self.trunk, state=state, **fields)


def _seconds(response: Response, name: str, most: float) -> float | None:
    """A header of seconds, bounded; None when absent or no number."""
    text = (response.headers.get(name) or "").partition(";")[0].partition("(")[0].strip()
    return min(float(text), most) if text.isdecimal() and len(text) < 10 else None


_ACTIONS: dict[Action, Callable[[Registration, float], None]] = {
    action: getattr(Registration, f"_{action.value.replace(' ', '_')}") for action in Action
}

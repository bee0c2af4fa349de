"""An ICE-lite agent for one component (RFC 8445), with the peer's consent to be sent to.

We have one host candidate and send no checks. The peer is full ICE and in control: it checks
the path from each of its addresses, which we learn from the checks alone, and nominates one.

A path is chosen, or changed, only by a check that is signed with our password, that no one has
sent before, and that nominates. Consent (RFC 7675) is what the peer's checks on that path prove.

Who is offered our credentials may check before its answer has reached us, and so may others that
have the same offer. They are answered; what they nominate counts when the answer is theirs.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from relay.webrtc import stun
from relay.webrtc.stun import Address

CONSENT_S = 30.0
MOST_PATHS = 16  # a peer with more addresses has the one longest unused forgotten
RECENT = 16  # checks that may be repeated: the response was lost
# Checks that are known not to be replayed: 512 KiB, a day at the usual pace. They are kept by
# their last octet, or a peer could make each of its checks cost a search of milliseconds.
MOST_USED = 65536
MOST_ALIKE = MOST_USED // 256


class Credentials(NamedTuple):
    """Of one ICE session: ours, and the part of USERNAME that is the peer's."""

    local_ufrag: str
    local_pwd: str
    remote_ufrag: str

    @property
    def username(self) -> str:
        """What a check must bear (RFC 8445 section 7.2.2)."""
        return f"{self.local_ufrag}:{self.remote_ufrag}"

    def of(self, username: str) -> Credentials | None:
        """With the peer that this names, if it names us."""
        local, colon, remote = username.partition(":")
        if local != self.local_ufrag or not colon:
            return None
        return self._replace(remote_ufrag=remote)


class Respond(NamedTuple):
    """A STUN response."""

    data: bytes
    to: Address


class PathChosen(NamedTuple):
    """What the peer nominated: RTP and DTLS pass there, and nowhere else."""

    address: Address


class ConsentEnded(NamedTuple):
    """Nothing may be sent to the peer until it checks again."""


class _Path(NamedTuple):
    """One address of the peer, after its last check."""

    priority: int
    nominated: bool
    turn: int  # the number of that check


class Agent:
    """`feed` takes what STUN came to the leg's socket; `drain` says what is to be done."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._sessions: list[Credentials] = []  # the second one is a restart's
        self._offered: Credentials | None = None  # whoever the peer is
        # The last check of each peer and address before its answer, and when it came.
        self._early: dict[tuple[Credentials, Address], tuple[stun.Request, float]] = {}
        self.selected: Address | None = None
        self._lost: Address | None = None  # the path whose consent ended
        self._consent_until: float | None = None
        self._paths: dict[Address, _Path] = {}
        self._turn = 0
        self._recent: dict[bytes, Address] = {}
        self._used: dict[int, array[int]] = {}
        self._outputs: list[Respond | PathChosen | ConsentEnded] = []

    def offer(self, ufrag: str, pwd: str) -> None:
        """Whoever checks with these, of our last offer, is answered (RFC 8445 section 7.3)."""
        self._offered = Credentials(ufrag, pwd, "")

    def describe(self, credentials: Credentials) -> None:
        """Other credentials than before are an ICE restart: the path stays, and may be checked
        with the old ones, until one is nominated with the new ones (RFC 8445 section 2.4)."""
        if self.has(credentials):
            return
        if self._sessions:
            self._counters["ice_restarts"] += 1
        self._sessions = [*self._sessions[:1], credentials]
        if self._offered is not None and self._offered.of(credentials.username) is None:
            self._offered = None  # of an exchange that is over
        for session, source in list(self._early):
            if session == credentials:
                self._heed(*self._early.pop((session, source)), source, credentials)

    def forget(self) -> None:
        """The peer is somebody else from now on, whose early checks may be here already."""
        self._sessions = []
        self.selected = self._lost = self._consent_until = None
        self._paths.clear()

    def has_checked(self, source: Address) -> bool:
        """Whether a good check came from there."""
        return source in self._paths or any(source == each for _, each in self._early)

    def has(self, credentials: Credentials) -> bool:
        """Whether it was described with these last."""
        return self._sessions[-1:] == [credentials]

    def feed(self, data: bytes, source: Address, now: float) -> None:
        """One datagram from `source`; only a good check changes anything."""
        request = stun.read_request(data)
        if request is None:
            self._counters["stun_malformed"] += 1
            return
        session = self._session_of(request)
        if session is None:
            self._counters["stun_not_authentic"] += 1
            return
        repeats = self._recent.get(request.transaction)
        if repeats is None and self._is_fresh(request, source):
            answer = self._answer(request, source, session, now)
        elif repeats == source:  # our response was lost
            answer = self._response(request, source, session)
        else:
            self._counters["stun_replayed"] += 1
            return
        self._outputs.append(Respond(answer, source))

    def drain(self) -> list[Respond | PathChosen | ConsentEnded]:
        outputs, self._outputs = self._outputs, []
        return outputs

    def next_timer(self) -> float | None:
        """When consent ends, unless checks come."""
        return self._consent_until

    def on_timer(self, now: float) -> None:
        if self._consent_until is not None and now >= self._consent_until:
            self._lost, self.selected, self._consent_until = self.selected, None, None
            self._counters["consent_lost"] += 1
            self._outputs.append(ConsentEnded())

    def _session_of(self, request: stun.Request) -> Credentials | None:
        offered = self._offered.of(request.username) if self._offered is not None else None
        for session in (*self._sessions, offered):
            if (
                session is not None
                and request.username == session.username
                and request.is_signed_with(session.local_pwd)
            ):
                return session
        return None

    def _is_fresh(self, request: stun.Request, source: Address) -> bool:
        """Whether nobody has sent it before.

        Who overheard a check and sends it from elsewhere would otherwise become the path, and
        could prove the consent of a peer that has left.
        """
        number = int.from_bytes(request.transaction[-8:], "big")
        used = self._used.get(number & 0xFF)
        if used is None:
            used = self._used[number & 0xFF] = array("Q")
        if number in used:
            return False
        if len(self._recent) >= RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[request.transaction] = source
        if len(used) >= MOST_ALIKE:
            del used[: MOST_ALIKE // 2]
        used.append(number)
        return True

    def _answer(
        self, request: stun.Request, source: Address, session: Credentials, now: float
    ) -> bytes:
        """The path changes before the peer learns that its check was good."""
        if request.unknown:
            self._counters["stun_unknown_attribute"] += 1
        elif request.controlled:
            self._counters["stun_role_conflict"] += 1
        elif session in self._sessions:
            self._heed(request, now, source, session)
        else:
            self._keep(request, now, source, session)
        return self._response(request, source, session)

    @staticmethod
    def _response(request: stun.Request, source: Address, session: Credentials) -> bytes:
        if request.unknown:
            return stun.error(request.transaction, 420, session.local_pwd, request.unknown)
        if request.controlled:  # a lite agent is never in control
            return stun.error(request.transaction, 487, session.local_pwd)
        return stun.success(request.transaction, source, session.local_pwd)

    def _keep(
        self, request: stun.Request, now: float, source: Address, session: Credentials
    ) -> None:
        """Until the answer tells whether it is that peer's. A nomination holds."""
        before, _ = self._early.pop((session, source), (request, now))
        if len(self._early) >= MOST_PATHS:
            del self._early[next(iter(self._early))]
        kept = before if before.use_candidate else request
        self._early[session, source] = kept, now

    def _heed(
        self, request: stun.Request, now: float, source: Address, session: Credentials
    ) -> None:
        self._on_check(request, source, session)
        if source == self.selected:
            self._consent_until = now + CONSENT_S

    def _on_check(self, request: stun.Request, source: Address, session: Credentials) -> None:
        self._turn += 1
        before = self._paths.pop(source, None)
        if len(self._paths) >= MOST_PATHS:
            del self._paths[next(iter(self._paths))]
        self._paths[source] = _Path(request.priority, request.use_candidate, self._turn)
        restarted = session is not self._sessions[0]
        if source == self._lost and not restarted:
            self._choose(source)  # the peer is back
        elif request.use_candidate and (restarted or self._takes(before, request.priority)):
            self._choose(source)
            if restarted:
                self._sessions = [session]  # over with its first nomination

    def _takes(self, before: _Path | None, priority: int) -> bool:
        """Whether this nomination moves the path. A peer that nominates all its addresses
        (RFC 5245 section 8.1.1.2) means the one of the highest priority; one that nominates an
        address that it only checked before, or goes on to nominate it alone, means that one."""
        chosen = None if self.selected is None else self._paths.get(self.selected)
        if chosen is None or priority > chosen.priority:
            return True
        if before is None:
            return False
        return not before.nominated or chosen.turn < before.turn

    def _choose(self, source: Address) -> None:
        self._lost = None
        if source != self.selected:
            self.selected = source
            self._outputs.append(PathChosen(source))

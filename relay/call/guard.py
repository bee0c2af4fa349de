"""Sources that are nobody's: how often they are answered, who is dropped without a word.

Only what comes neither from a trunk's address nor from a dialog's peer, and answers no request
of ours, is judged here: such a source has a bucket of tokens, and offences that add up to a ban.

The source of a datagram can be forged, so anybody can have anybody banned. That is why a ban is
short, why it never falls on a trunk, on `never_ban` or on ourselves, and why a source that has
once answered a challenge is past it: an answer needs the nonce, which went to the true address.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from relay.residency.boundary import lies_in
from relay.sip.message import Request, Response

if TYPE_CHECKING:
    from relay.call.alarms import Alarms
    from relay.call.ports import Journal
    from relay.call.router import Router
    from relay.config import Limits
    from relay.errors import MalformedMessage

MOST_SOURCES = 32768  # of each table; the one that was idle longest makes room
PROVED_S = 3600.0  # how long the answer to a challenge speaks for a source
FORGIVEN = 5  # wrong passwords: a PBX tries its old one for a while after a change
MALFORMED_PER_SECOND = 10.0  # that a trunk gets its 400 for
LATE_PER_SECOND = 100.0  # 2xx to what is over, that a trunk gets ACK and BYE for
LONGEST_NUMBER = 64  # characters that the patterns of scanners are tried on


class Offence(Enum):
    """What counts towards a ban; a challenge does not."""

    UNKNOWN_SOURCE = "INVITE or REGISTER from no trunk's address"
    SCANNER = "known scanner"
    MALFORMED = "malformed messages"
    STRAY_RESPONSES = "responses to nothing"
    WRONG_PASSWORD = "wrong passwords"


class Guard:
    """Bounded in memory: a spray of forged sources pushes out only its like."""

    def __init__(
        self,
        limits: Limits,
        own: Iterable[str],
        router: Router,
        journal: Journal,
        alarms: Alarms,
        wall_clock: Callable[[], datetime],
    ) -> None:
        """`own` are this node's addresses."""
        self.counters: Counter[str] = Counter()
        self._limits = limits
        self._router = router
        self._journal = journal
        self._alarms = alarms
        self._wall_clock = wall_clock
        self._never = (*limits.never_ban, *map(ipaddress.ip_network, own))
        self._agents = tuple(agent.lower() for agent in limits.scanner_agents)
        self._methods = frozenset(method.upper() for method in limits.scanner_methods)
        self._numbers = re.compile("|".join(f"(?:{each})" for each in limits.scanner_numbers))
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._proved: OrderedDict[str, float] = OrderedDict()
        self._banned: OrderedDict[str, float] = OrderedDict()  # until when, in that order
        self._trunks: dict[tuple[str, str], _Bucket] = {}

    # --- from the user agent

    def admits(self, message: Request | Response | MalformedMessage, host: str, now: float) -> bool:
        """Whether a stranger's message is looked at; if not it was counted, and that is all."""
        key = source_of(host)
        if key in self._banned and not self._is_exempt(host):
            self.counters["banned_dropped"] += 1
            return False
        if self._proved.get(key, 0.0) > now:
            return True
        if isinstance(message, Request) and self._scans(message):
            self.counters["scanner_dropped"] += 1
            self.offence(host, Offence.SCANNER, now)
            return False
        if self._source(key).bucket.take(self._limits.unknown_per_second, now):
            return True
        self.counters["unknown_dropped"] += 1
        if isinstance(message, Response):
            self.offence(host, Offence.STRAY_RESPONSES, now)
        return False

    def offence(self, host: str, kind: Offence, now: float) -> None:
        """A source did wrong; too often, and it is banned. Of a trunk's address: nothing."""
        key = source_of(host)
        if key in self._banned or self._router.at(host) is not None:
            return
        source = self._source(key)
        if kind is Offence.WRONG_PASSWORD:
            source.failures += 1
            if source.failures <= FORGIVEN:
                return
            self._proved.pop(key, None)
        elif self._proved.get(key, 0.0) > now:
            return
        if now - source.since > self._limits.ban_window_s:
            source.since, source.offences = now, 0
        source.offences += 1
        if source.offences >= self._limits.ban_after and not self._is_exempt(host):
            self._ban(key, kind, now)

    def proved(self, host: str, now: float) -> None:
        """A source answered a challenge rightly: what it was suspected of is forgotten."""
        key = source_of(host)
        self._sources.pop(key, None)
        self._proved[key] = now + PROVED_S
        self._proved.move_to_end(key)
        if len(self._proved) > MOST_SOURCES:
            self._proved.popitem(last=False)

    def answers_malformed(self, trunk: str, now: float) -> bool:
        """Whether a trunk gets one more 400: what floods us with rubbish costs us little."""
        return self._has_token("malformed", trunk, MALFORMED_PER_SECOND, now)

    def answers_late(self, trunk: str, now: float) -> bool:
        """Whether one more 2xx of a trunk to what is over is dealt with: each costs a
        transaction for half a minute, and the address of a trunk can be forged."""
        return self._has_token("late_answers", trunk, LATE_PER_SECOND, now)

    def is_banned(self, host: str) -> bool:
        """For a connection that is being made."""
        return source_of(host) in self._banned and not self._is_exempt(host)

    def on_timer(self, now: float) -> None:
        """The first bans are over."""
        banned = self._banned
        while banned:
            key = next(iter(banned))
            if banned[key] > now:
                self._alarms.set(self, banned[key])
                return
            del banned[key]
            self._journal.event("source_unbanned", "-", source=key)

    # --- inside

    def _has_token(self, kind: str, trunk: str, rate: float, now: float) -> bool:
        if self._trunks.setdefault((kind, trunk), _Bucket(rate)).take(rate, now):
            return True
        self.counters[f"{kind}_dropped"] += 1
        return False

    def _source(self, key: str) -> _Source:
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source(self._limits.unknown_per_second)
            if len(self._sources) > MOST_SOURCES:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(key)
        return source

    def _scans(self, request: Request) -> bool:
        if request.method in self._methods:
            return True
        if self._agents and (agent := request.headers.get("User-Agent")):
            agent = agent.lower()
            if any(each in agent for each in self._agents):
                return True
        if not self._limits.scanner_numbers:
            return False
        user = request.uri.partition(":")[2].rpartition("@")[0]
        return bool(user) and self._numbers.match(user[:LONGEST_NUMBER]) is not None

    def _is_exempt(self, host: str) -> bool:
        """Never banned: a trunk's address, one of `never_ban`, our own."""
        return self._router.at(host) is not None or lies_in(host, self._never)

    def _ban(self, key: str, kind: Offence, now: float) -> None:
        ban_s = self._limits.ban_s
        if not self._banned:
            self._alarms.set(self, now + ban_s)
        self._sources.pop(key, None)
        self._banned[key] = now + ban_s
        if len(self._banned) > MOST_SOURCES:
            self._banned.popitem(last=False)
        self.counters["banned"] += 1
        until = self._wall_clock() + timedelta(seconds=ban_s)
        self._journal.event(
            "source_banned",
            "-",
            source=key,
            why=kind.value,
            until=until.isoformat(timespec="seconds"),
        )


class _Bucket:
    """One second of tokens."""

    __slots__ = ("at", "tokens")

    def __init__(self, rate: float) -> None:
        self.tokens = max(1.0, rate)
        self.at = 0.0

    def take(self, rate: float, now: float) -> bool:
        self.tokens = min(max(1.0, rate), self.tokens + max(0.0, now - self.at) * rate)
        self.at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class _Source:
    """What is known of one source."""

    __slots__ = ("bucket", "failures", "offences", "since")

    def __init__(self, rate: float) -> None:
        self.bucket = _Bucket(rate)
        self.failures = self.offences = 0
        self.since = float("-inf")


def source_of(host: str) -> str:
    """Who is meant by an address: of IPv6 the /64, which one site may use as it likes."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"

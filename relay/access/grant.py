"""A grant: the time-limited approval, given inside, for staff of another jurisdiction.

        requested ──approve (the last one needed)──▶ approved
            │  └────────expire──────┐                 │  │
            └──revoke──▶ revoked ◀──│─────revoke──────┘  │
                                    └──▶ expired ◀──expire

Pure: time is an argument, and each step gives a new grant. What a step may not do raises
Forbidden, which names the rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from relay.access.roles import May, Policy, Staff
from relay.errors import Forbidden
from relay.residency.record import CallRecord

LONGEST_REASON = 500
MOST_RECORDS = 1000
MOST_OPEN = 20  # of one requester, at a time
_ID = re.compile(r"[A-Za-z0-9._@-]{1,128}")


class State(Enum):
    REQUESTED = "requested"
    APPROVED = "approved"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Step(Enum):
    APPROVE = "approve"
    EXPIRE = "expire"
    REVOKE = "revoke"


# What is absent is refused: an end is for good.
TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.REQUESTED, Step.APPROVE): State.APPROVED,
    (State.REQUESTED, Step.EXPIRE): State.EXPIRED,
    (State.REQUESTED, Step.REVOKE): State.REVOKED,
    (State.APPROVED, Step.EXPIRE): State.EXPIRED,
    (State.APPROVED, Step.REVOKE): State.REVOKED,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls: those that fit all of what is given. `records` are ids of calls or of their
    recordings, `peer` a trunk or an account of either leg, the times those of the call's start."""

    records: frozenset[str] = frozenset()
    peer: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if not self.records and not self.peer and self.since is None:
            raise Forbidden(
                "scope", "a grant is for some calls: give records, a peer or a span of time"
            )
        if any(_ID.fullmatch(each) is None for each in (*self.records, self.peer or "-")):
            raise Forbidden(
                "scope", "a record or peer of a grant is named by letters, digits, ._@-"
            )
        if len(self.records) > MOST_RECORDS:
            raise Forbidden("scope", f"a grant has up to {MOST_RECORDS} records")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise Forbidden("scope", "the span of a grant ends before it begins")

    def covers(self, call: CallRecord) -> bool:
        ids = {call.recording.id} if call.recording is not None else set()
        # Of what was kept without a key anybody may have written time, peers and recording: only
        # its audio says whose it is.
        sealed = any(leg.sip_call_id for leg in call.legs)
        ids |= {call.id} if sealed else set()
        return (
            (sealed or bool(self.records))
            and (not self.records or not ids.isdisjoint(self.records))
            and (not self.peer or any(leg.peer == self.peer for leg in call.legs))
            and (self.since is None or call.started >= self.since)
            and (self.until is None or call.started < self.until)
        )


@dataclass(frozen=True, slots=True)
class Approval:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """`needed` is how many approvals it takes, by the policy of when it was requested."""

    id: str
    requester: str
    jurisdiction: str
    reason: str
    scope: Scope
    requested: datetime
    until: datetime
    needed: int
    state: State = State.REQUESTED
    approvals: tuple[Approval, ...] = ()
    revoked_by: str = ""
    revoked: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.state in (State.REQUESTED, State.APPROVED)

    def at(self, now: datetime) -> Grant:
        """As it is now: it expires by itself, and once expired it stays so."""
        if now >= self.until and (self.state, Step.EXPIRE) in TRANSITIONS:
            return self._step(Step.EXPIRE)
        return self

    def allows(self, staff: Staff, call: CallRecord, now: datetime) -> bool:
        """Whether it is good now, for this holder and this call."""
        return (
            self.at(now).state is State.APPROVED
            and self.requester == staff.name
            and self.jurisdiction == staff.jurisdiction
            and self.scope.covers(call)
        )

    def approve(self, staff: Staff, policy: Policy, now: datetime) -> Grant:
        """One approval more; with the last one that it needs it is approved."""
        policy.check_may(staff, May.APPROVE)
        policy.check_inside(staff, May.APPROVE)
        if staff.name.casefold() == self.requester.casefold():
            raise Forbidden("four-eyes", f"grant {self.id}: nobody approves their own request")
        if staff.name.casefold() in [approval.by.casefold() for approval in self.approvals]:
            raise Forbidden("four-eyes", f"grant {self.id}: you have approved it already")
        current = self.at(now)
        current._check(Step.APPROVE)
        approvals = (*self.approvals, Approval(staff.name, now))
        more = replace(current, approvals=approvals)
        return more._step(Step.APPROVE) if len(approvals) >= self.needed else more

    def revoke(self, staff: Staff, policy: Policy, now: datetime) -> Grant:
        """By an approver inside, by who asked for it, or by who runs the node."""
        if staff.name != self.requester and staff.kind != "host":
            policy.check_may(staff, May.APPROVE)
            policy.check_inside(staff, May.APPROVE)
        ended = self.at(now)._step(Step.REVOKE)
        return replace(ended, revoked_by=staff.name, revoked=now)

    def _check(self, step: Step) -> None:
        if (self.state, step) not in TRANSITIONS:
            raise Forbidden("grant", f"grant {self.id} is {self.state.value}: no {step.value}")

    def _step(self, step: Step) -> Grant:
        self._check(step)
        return replace(self, state=TRANSITIONS[self.state, step])


def request(
    grant_id: str,
    staff: Staff,
    policy: Policy,
    reason: str,
    scope: Scope,
    until: datetime,
    now: datetime,
) -> Grant:
    """Ask for one. Raises Forbidden."""
    if policy.inside(staff):
        raise Forbidden(
            "jurisdiction", f"{staff.jurisdiction} is inside: your role is enough, or not"
        )
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise Forbidden("reason", f"a reason is 1 to {LONGEST_REASON} characters, on one line")
    if until <= now:
        raise Forbidden("until", "the grant would end before it begins")
    if until - now > policy.longest_grant:
        hours = policy.longest_grant.total_seconds() / 3600
        raise Forbidden("until", f"a grant is good for {hours:g} hours at most (longest_grant_h)")
    return Grant(
        grant_id, staff.name, staff.jurisdiction, reason, scope, now, until, policy.approvals
    )

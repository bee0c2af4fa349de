"""Grants as they are asked for, decided on and used; each step is an audit entry first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from relay.access import grant as grants
from relay.access.grant import Grant, Scope, State
from relay.access.ports import AuditEntries, AuditLog, Grants
from relay.access.roles import May, Policy, Staff
from relay.errors import Forbidden, NotKept, RelayError
from relay.residency.audit import RELAY

OVER = (
    "grant-revoked",
    "grant-expired",
    "grant-over",
)  # entries after which a grant is never good again


class Granting:
    """The region's grants. `token` makes their ids; everything raises AuditUnavailable and
    DatabaseUnavailable, and has then changed nothing."""

    def __init__(
        self,
        policy: Policy,
        kept: Grants,
        audit: AuditLog,
        entries: AuditEntries,
        token: Callable[[], str],
    ) -> None:
        self.policy = policy
        self._kept = kept
        self._audit = audit
        self._entries = entries
        self._token = token
        self._over: set[str] = set()  # ids, of the entries that were read
        self._read = 0

    async def request(
        self, staff: Staff, reason: str, scope: Scope, until: datetime, now: datetime
    ) -> Grant:
        """Raises Forbidden for a request that cannot be granted."""
        made = grants.request(self._token(), staff, self.policy, reason, scope, until, now)
        open_ones = [each for each in await self._kept.of(staff.name) if each.at(now).is_open]
        if len(open_ones) >= grants.MOST_OPEN:
            raise Forbidden("open-grants", f"you have {grants.MOST_OPEN} open grants: revoke some")
        await self._audit.record(
            "grant-requested",
            staff.actor(),
            made.id,
            peer=scope.peer,
            records=len(scope.records),
            until=until.isoformat(),
            approvals=made.needed,
        )
        await self._kept.add(made)
        return made

    async def approve(self, staff: Staff, grant_id: str, now: datetime) -> Grant:
        """Raises NotKept, and Forbidden for who may not, and for what is over."""
        return await self._change(
            "grant-approved", staff, grant_id, lambda found: found.approve(staff, self.policy, now)
        )

    async def revoke(self, staff: Staff, grant_id: str, now: datetime) -> Grant:
        """Whatever is being read by it ends at once. Raises as `approve` does."""
        return await self._change(
            "grant-revoked", staff, grant_id, lambda found: found.revoke(staff, self.policy, now)
        )

    async def all(self, staff: Staff, now: datetime) -> list[Grant]:
        """The latest first: an approver or auditor inside, and who runs the node, sees all,
        others see their own."""
        sees_all = staff.may(May.APPROVE) or staff.may(May.AUDIT)
        if sees_all and self.policy.inside(staff):
            found = await self._kept.all()
        else:
            found = await self._kept.of(staff.name)
        return await self._as_now(found, now)

    async def find(self, staff: Staff, grant_id: str, now: datetime) -> Grant:
        """Raises NotKept, also for somebody else's."""
        for each in await self.all(staff, now):
            if each.id == grant_id:
                return each
        raise _no_grant()

    async def usable(self, staff: Staff, now: datetime) -> list[Grant]:
        """The holder's, that are approved and have not ended."""
        found = await self._as_now(await self._kept.of(staff.name), now)
        return [
            each
            for each in found
            if each.state is State.APPROVED and each.jurisdiction == staff.jurisdiction
        ]

    async def _change(
        self, action: str, staff: Staff, grant_id: str, change: Callable[[Grant], Grant]
    ) -> Grant:
        found = await self._kept.find(grant_id)
        if found is None:
            raise _no_grant()
        try:
            made = change(*await self._without_restored([found]))
        except Forbidden as error:
            self._audit.note("access-refused", staff.actor(), found.id, rule=error.rule)
            raise
        await self._audit.record(
            action, staff.actor(), found.id, approvals=len(made.approvals), state=made.state.value
        )
        try:
            return await self._kept.change(found.id, change)
        except RelayError:  # somebody was quicker, or the database is away
            self._audit.note(f"{action}-failed", staff.actor(), found.id)
            raise

    async def _as_now(self, found: Iterable[Grant], now: datetime) -> list[Grant]:
        """What has expired is kept so: no step of the clock gives it back."""
        current = []
        for each in found:
            current.append(each.at(now))
            if current[-1] is not each:
                self._over.add(each.id)
                self._audit.note("grant-expired", RELAY, each.id)
                await self._kept.change(each.id, lambda kept: kept.at(now))
        return await self._without_restored(current)

    async def _without_restored(self, found: list[Grant]) -> list[Grant]:
        """Nor does an older row that somebody put back: the audit log knows what has ended. What
        another node has ended gets into it when it is first seen here."""
        if found:
            await self._read_over()
        shown = []
        for each in found:
            if each.is_open and each.id in self._over:
                self._audit.note("grant-restored", RELAY, each.id)
                each = replace(each, state=State.REVOKED)
            elif not each.is_open and each.id not in self._over:
                self._over.add(each.id)
                self._audit.note("grant-over", RELAY, each.id)
            shown.append(each)
        return shown

    async def _read_over(self) -> None:
        """What the audit log has of ends since it was read last. Raises AuditUnavailable."""
        first = self._read + 1
        async for line in self._entries.lines(first):
            if b'"grant-' in line:
                entry = json.loads(line)
                if entry["action"] in OVER:
                    self._over.add(entry["subject"])
            first += 1
        self._read = max(self._read, first - 1)


def _no_grant() -> NotKept:
    return NotKept("there is no such grant, or it is not yours to see")

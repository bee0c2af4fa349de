"""Staff: what each role may do, and whose law its holder acts under.

| role | may |
|---|---|
| `analyst` | see pseudonyms and counts, as everybody may |
| `support` | read call records: numbers, identities, addresses |
| `reviewer` | read call records and play recordings |
| `auditor` | read receipts and the audit log |
| `approver` | approve and revoke grants; nothing of calls but pseudonyms |

Outside of the region's jurisdictions a role is worth nothing until a grant (`access/grant`) says
for what; a grant never gives more than the role does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from relay.errors import Forbidden
from relay.residency.audit import Actor

if TYPE_CHECKING:
    from relay.config import Config


class Role(Enum):
    ANALYST = "analyst"
    SUPPORT = "support"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    APPROVER = "approver"


class May(Enum):
    """What a role may do; the value ends "may not ..."."""

    READ_CALLS = "read call records"
    PLAY = "play recordings"
    READ_RECEIPTS = "read receipts"
    AUDIT = "read the audit log"
    APPROVE = "approve grants"


ALLOWED: dict[Role, frozenset[May]] = {
    Role.ANALYST: frozenset(),
    Role.SUPPORT: frozenset({May.READ_CALLS}),
    Role.REVIEWER: frozenset({May.READ_CALLS, May.PLAY}),
    Role.AUDITOR: frozenset({May.READ_RECEIPTS, May.AUDIT}),
    Role.APPROVER: frozenset({May.APPROVE}),
}


@dataclass(frozen=True, slots=True)
class Staff:
    """Who asks. `until` is when its token expires; `kind` as in `Actor`."""

    name: str
    jurisdiction: str
    roles: frozenset[Role]
    until: datetime
    kind: str = "staff"

    def may(self, what: May) -> bool:
        return any(what in ALLOWED[role] for role in self.roles)

    def actor(self, grant: str = "") -> Actor:
        """As the audit log names it."""
        return Actor(self.kind, self.name, self.jurisdiction, grant)


@dataclass(frozen=True, slots=True)
class Policy:
    """The region's rules of access (`[access]`)."""

    region: str
    jurisdictions: tuple[str, ...]
    approvals: int
    longest_grant: timedelta

    @classmethod
    def of(cls, config: Config) -> Policy:
        access = config.access
        return cls(
            config.region.id,
            access.jurisdictions or (config.region.jurisdiction,),
            access.approvals,
            timedelta(hours=access.longest_grant_h),
        )

    def inside(self, staff: Staff) -> bool:
        """Whether its holder acts under the region's own law."""
        return staff.jurisdiction in self.jurisdictions

    def check_may(self, staff: Staff, what: May) -> None:
        """Raises Forbidden, naming the role that would do."""
        if not staff.may(what):
            can = " or ".join(role.value for role in Role if what in ALLOWED[role])
            held = ", ".join(sorted(role.value for role in staff.roles)) or "no role"
            raise Forbidden("role", f"{held} may not {what.value}: it takes {can}")

    def check_inside(self, staff: Staff, what: May) -> None:
        """Raises Forbidden for what no grant gives: it is done inside, or not at all."""
        if not self.inside(staff):
            raise Forbidden(
                "jurisdiction",
                f"from {staff.jurisdiction} nobody may {what.value}: it takes staff of "
                f"{' or '.join(self.jurisdictions)}, and no grant is enough",
            )


def on_this_node(name: str, policy: Policy, until: datetime) -> Staff:
    """Who runs a command on a node: inside, with all that reads and nothing that approves."""
    roles: Iterable[Role] = (Role.REVIEWER, Role.AUDITOR)
    return Staff(name, policy.jurisdictions[0], frozenset(roles), until, "host")

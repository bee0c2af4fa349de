"""What the API is made of, and who asks: a token of staff, from the Authorization header only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

import structlog
from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from relay.access.granting import Granting
from relay.access.reading import Reading
from relay.access.roles import Staff
from relay.access.staff import StaffTokens
from relay.errors import RelayError, TokenRefused
from relay.residency.audit import Actor, AuditLog

NOBODY = Actor("staff", "unknown")
TOLD_EVERY = timedelta(seconds=1)
# With its zone, and far enough from where calendars end to be counted with.
Moment = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))
]
RecordId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._@-]{1,128}$")]


@dataclass
class Access:
    """`clock` is the wall clock, `on_bug` hears of what nobody expected. `downloads` are those
    under way."""

    tokens: StaffTokens
    reading: Reading
    granting: Granting
    audit: AuditLog
    clock: Callable[[], datetime]
    on_bug: Callable[[Exception], None]
    counters: Counter[str] = field(default_factory=Counter)
    downloads: int = 0
    _told: datetime | None = None

    def refused(self, error: RelayError, host: str) -> None:
        """Count a refusal, and tell of a token that proves nobody: who may not read what is told
        where that is decided. Of the log at most a line a second."""
        if not isinstance(error, TokenRefused):
            self.counters["refused" if error.status_hint < 500 else "unavailable"] += 1
            return
        self.counters["staff_token_refused"] += 1
        if error.reason == "missing":
            return
        self.audit.note("token-refused", NOBODY, reason=error.reason)
        now = self.now()
        if self._told is None or abs(now - self._told) >= TOLD_EVERY:
            self._told = now
            count = self.counters["staff_token_refused"]
            logger = structlog.get_logger()
            logger.warning("staff_token_refused", reason=error.reason, address=host, count=count)

    def now(self) -> datetime:
        return self.clock()

    @contextmanager
    def download(self) -> Iterator[None]:
        self.downloads += 1
        try:
            yield
        finally:
            self.downloads -= 1


class Body(BaseModel):
    """Of a request; no key of it is ignored, and no value of it is repeated in an answer."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def _access(request: Request) -> Access:
    found: Access = request.app.state.access
    return found


Here = Annotated[Access, Depends(_access)]
_bearer = HTTPBearer(auto_error=False, description="A token of staff: `relay staff token`.")


def _admit(
    access: Here, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Staff:
    if credentials is None:
        raise TokenRefused("missing", "Authorization: Bearer and a token of staff is missing")
    return access.tokens.admit(credentials.credentials, access.now())


Who = Annotated[Staff, Depends(_admit)]

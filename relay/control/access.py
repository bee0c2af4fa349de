"""What the API is made of, and who asks: a token of staff, from the Authorization header only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict

from relay.access.granting import Granting
from relay.access.reading import Reading
from relay.access.roles import Staff
from relay.access.staff import StaffTokens
from relay.errors import RelayError, TokenRefused

RecordId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._@-]{1,128}$")]


@dataclass
class Access:
    """`clock` is the wall clock; `on_refused` hears of each refusal and of the address that
    asked. `downloads` are those under way."""

    tokens: StaffTokens
    reading: Reading
    granting: Granting
    clock: Callable[[], datetime]
    on_refused: Callable[[RelayError, str], None]
    on_bug: Callable[[Exception], None]
    counters: Counter[str] = field(default_factory=Counter)
    downloads: int = 0

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

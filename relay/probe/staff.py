"""Staff of a region who want to hear a recording over its API, as the demonstration shows them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.residency.claims import STAFF_TYPE

DEADLINE_S = 20.0
POLL_S = 0.2
KID = "demo"
OUTSIDER = "jane"


@dataclass(frozen=True, slots=True)
class Office:
    """Where staff ask (`url`), and who issues its tokens, by a key made for this: its private
    half never leaves the process."""

    url: str
    region: str
    public: Path
    key: EllipticCurvePrivateKey

    @staticmethod
    def open(url: str, region: str, public: Path) -> Office:
        """With a new key, whose public half is written to a file."""
        key = generate_private_key(SECP256R1())
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        public.write_bytes(pem)
        return Office(url, region, public, key)

    @property
    def section(self) -> str:
        """What the region's configuration says of it."""
        return f'[access]\nkeys = [{{ id = "{KID}", public_key = "{self.public}" }}]\n'

    def member(self, name: str, role: str, jurisdiction: str) -> Member:
        """Somebody of staff, with a token as `relay staff token` makes them."""
        now = int(time.time())
        claims = {
            "sub": name,
            "region": self.region,
            "jurisdiction": jurisdiction,
            "roles": [role],
            "iat": now,
            "exp": now + 3600,
            "jti": secrets.token_hex(8),
        }
        headers = {"kid": KID, "typ": STAFF_TYPE}
        return Member(self.url, jwt.encode(claims, self.key, "ES256", headers=headers))


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody of staff. Everything raises httpx.HTTPError."""

    url: str
    token: str

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return self._ask("GET", path, params=parameters)

    def hear(self, recording: str) -> httpx.Response:
        return self.get(f"/recordings/{recording}/audio")

    def request(self, recording: str, reason: str) -> httpx.Response:
        """A grant for an hour."""
        until = datetime.now(UTC) + timedelta(hours=1)
        body = {"reason": reason, "scope": {"records": [recording]}, "until": until.isoformat()}
        return self._ask("POST", "/grants", json=body)

    def led_to(self, host: str, since: datetime) -> list[dict[str, Any]]:
        """What the records of calls from then on say of this address."""
        calls = self.get("/calls", since=since.isoformat()).json()["calls"]
        seen = [each for call in calls for leg in call.get("legs", ()) for each in leg["seen"]]
        return [each for each in seen if each["host"] == host]

    def approve(self, grant: str) -> httpx.Response:
        return self._ask("POST", f"/grants/{grant}/approve")

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, f"{self.url}/v1{path}", headers=bearer, timeout=10, **more)


@dataclass(slots=True)
class Readings:
    """What each attempt to hear the recording gave, in this order."""

    inside: httpx.Response
    outside: httpx.Response
    requested: httpx.Response
    approved: httpx.Response
    granted: httpx.Response


def read(office: Office, recording: str) -> Readings:
    """A reviewer inside hears it; one outside does with a grant. Raises httpx.HTTPError."""
    maeve = office.member("maeve", "reviewer", "EU")
    jane = office.member(OUTSIDER, "reviewer", "US")
    aoife = office.member("aoife", "approver", "EU")
    inside = until_there(lambda: maeve.hear(recording))
    outside = jane.hear(recording)
    requested = jane.request(recording, "the customer says that a delivery was confirmed")
    approved = aoife.approve(str(requested.json().get("id", "none")))
    return Readings(inside, outside, requested, approved, jane.hear(recording))


def verdicts(office: Office, host: str, since: datetime) -> list[dict[str, Any]]:
    """The boundary's on an address, in the records of the calls since then. Raises as `read`."""
    maeve = office.member("maeve", "reviewer", "EU")
    deadline = time.monotonic() + DEADLINE_S
    while not (found := maeve.led_to(host, since)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found


def until_there(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer but 404: a call's record is kept a moment after its end."""
    deadline = time.monotonic() + DEADLINE_S
    while (answer := ask()).status_code == 404 and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return answer

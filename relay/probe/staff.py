"""Staff of a region who want to hear a recording over its API, as the demonstration shows them."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from relay.probe.wav_file import ProbeError

DEADLINE_S = 20.0
POLL_S = 0.2
OUTSIDER = "jane"


def relay(*arguments: str, at: Path | None = None) -> str:
    """What a command of `relay` prints, run in the directory `at`. Raises ProbeError where it has
    nothing to say but a mistake."""
    command = [sys.executable, "-m", "relay", *arguments]
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout:
        raise ProbeError(f"relay {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Office:
    """Where staff ask (`url`), and with what key its tokens are made; the public half is `.pub`."""

    url: str
    config: Path
    key: Path

    @property
    def section(self) -> str:
        """What the region's configuration says of it."""
        return f'[access]\nkeys = [{{ id = "demo", public_key = "{self.key}.pub" }}]\n'

    def member(self, name: str, role: str, jurisdiction: str) -> Member:
        """Somebody of staff, by a token of `relay staff token`. Raises ProbeError."""
        who = ("--name", name, "--role", role, "--jurisdiction", jurisdiction)
        token = relay("staff", "token", *who, "--key", str(self.key), "-c", str(self.config))
        return Member(self.url, token)


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody of staff. Everything raises httpx.HTTPError."""

    url: str
    token: str

    def hear(self, recording: str) -> httpx.Response:
        return self._ask("GET", f"/recordings/{recording}/audio")

    def request(self, recording: str, reason: str) -> httpx.Response:
        """A grant for an hour."""
        until = datetime.now(UTC) + timedelta(hours=1)
        body = {"reason": reason, "scope": {"records": [recording]}, "until": until.isoformat()}
        return self._ask("POST", "/grants", json=body)

    def led_to(self, host: str, since: datetime) -> list[dict[str, Any]]:
        """What the records of calls from then on say of this address."""
        calls = self._ask("GET", "/calls", params={"since": since.isoformat()}).json()["calls"]
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
    """A reviewer inside hears it; one outside does with a grant. Raises ProbeError, HTTPError."""
    maeve = office.member("maeve", "reviewer", "EU")
    jane = office.member(OUTSIDER, "reviewer", "US")
    aoife = office.member("aoife", "approver", "EU")
    inside = _when_kept(maeve, recording)
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


def _when_kept(member: Member, recording: str) -> httpx.Response:
    """The call's record gets to the database a moment after its end."""
    deadline = time.monotonic() + DEADLINE_S
    while (answer := member.hear(recording)).status_code == 404 and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return answer

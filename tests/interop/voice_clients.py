"""A region with voice clients beside its two trunks, and SDK clients of it."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from relay.client import Client, Codec
from relay.probe.certificates import Authority
from relay.probe.remote import Setup
from tests.interop.region import Party, Region, free_port, parties, region

ACCOUNT = "app"
SECRET = secrets.token_hex(32)
NUMBERS = {"alice": "+35315550101", "bob": "+35315550102"}
G711 = (Codec.PCMU, Codec.PCMA)


def token(identity: str, *, secret: str = SECRET, **claims: Any) -> str:
    """An access token of the account; `claims` are added, or replace the usual ones."""
    now = int(time.time())
    whole = {
        "iss": ACCOUNT,
        "sub": identity,
        "region": "t1",
        "iat": now,
        "nbf": now - 1,
        "exp": now + 600,
        "jti": secrets.token_hex(8),
        "out": True,
        "in": True,
        "number": NUMBERS.get(identity),
        **claims,
    }
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, secret, "HS256", headers={"kid": "k1"})


def account(options: dict[str, Any]) -> str:
    """Clients call each other by name and number, and the carrier; both trunks call them."""
    lines = ["[[account]]", f'name = "{ACCOUNT}"']
    lines += [f"{key} = {value}" for key, value in options.items()]
    lines += [f'keys = [{{ id = "k1", secret = "{SECRET}" }}]']
    routes = [(ACCOUNT, "*", ACCOUNT, None), (ACCOUNT, "+*", "carrier", None)]
    for caller in ("pbx", "carrier", ACCOUNT):
        routes += [(caller, number, ACCOUNT, name) for name, number in NUMBERS.items()]
    for caller, number, callee, identity in routes:
        lines += ["[[route]]", f'from = "{caller}"', f'number = "{number}"', f'to = "{callee}"']
        lines += [f'identity = "{identity}"'] if identity else []
    return "\n".join(lines)


@dataclass(slots=True)
class VoiceRegion:
    """The running relay and where its clients connect."""

    region: Region
    at: Party
    authority: Authority

    @property
    def url(self) -> str:
        return f"wss://{self.at}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.file))

    def client(self, identity: str, codecs: tuple[Codec, ...] = G711, **options: Any) -> Client:
        """A client with a good token."""
        return Client(self.url, token(identity), codecs=codecs, trust=self.trust, **options)

    def phone(self, side: str, voices: dict[str, Path], tmp_path: Path, **more: Any) -> Setup:
        """A pjsua2 phone at the PBX's or the carrier's place; it speaks as the callee."""
        own = {"pbx": self.region.pbx, "carrier": self.region.carrier}[side]
        heard = tmp_path / f"{side}-heard.wav"
        return Setup(side, own.host, own.port, play=voices["callee"], record=heard, **more)


@contextmanager
def voice_region(
    tmp_path: Path, options: dict[str, Any] | None = None, **more: Any
) -> Iterator[VoiceRegion]:
    """`options` are more keys of the account, as TOML has them; `more` goes to `region`."""
    everyone = parties()
    host = everyone[0].host
    at = Party(host, free_port(host))
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("relay", host)
    with region(
        tmp_path,
        everyone=everyone,
        listen=(f"wss:{at}",),
        sip={"tls": pair.tls},
        more=account(options or {}),
        **more,
    ) as running:
        yield VoiceRegion(running, at, authority)

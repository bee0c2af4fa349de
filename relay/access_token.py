"""What `relay token` makes: an access token as an account's own backend makes it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationError

from relay.config import IDENTITY, NUMBER, Account, Config, TokenKey
from relay.errors import CertificateError, ConfigError

LONGEST_S = 86400  # a region takes none that lasts for longer
_TTL = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose tokens, for which region, and what signs them."""

    region: str
    account: str
    key_id: str
    algorithm: str
    key: str | EllipticCurvePrivateKey

    def token(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": self.key_id})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token is to say. Raises ConfigError when nobody would take it."""

    identity: str
    ttl: str
    may_call_out: bool
    may_be_called: bool
    number: str | None

    def claims(self, signer: Signer, now: float) -> dict[str, Any]:
        """`now` is in seconds since 1970."""
        mistakes = []
        if IDENTITY.fullmatch(self.identity) is None:
            mistakes.append(f"--identity: {self.identity!r} is not of letters, digits, . _ and -")
        if self.number is not None and NUMBER.fullmatch(self.number) is None:
            mistakes.append(f"--number: {self.number!r} is no number such as +35315550111")
        lasts_s = seconds_of(self.ttl)
        if lasts_s is None:
            mistakes.append(f"--ttl: {self.ttl!r} is not 90s, 15m, 1h … up to 24h")
        if mistakes or lasts_s is None:
            raise ConfigError("relay token", mistakes)
        issued = int(now)
        said: dict[str, Any] = {
            "iss": signer.account,
            "sub": self.identity,
            "region": signer.region,
            "iat": issued,
            "exp": issued + lasts_s,
            "jti": secrets.token_hex(8),
            "out": self.may_call_out,
            "in": self.may_be_called,
        }
        return said if self.number is None else {**said, "number": self.number}


def seconds_of(ttl: str) -> int | None:
    """How long a token is to last; None for what no region would take."""
    match = _TTL.fullmatch(ttl)
    lasts_s = int(match[1]) * _UNITS[match[2]] if match is not None else 0
    return lasts_s if 0 < lasts_s <= LONGEST_S else None


def by_config(config: Config, name: str, file: str, key_id: str | None, path: str | None) -> Signer:
    """An account of a configuration signs, with a private key at `path` when it has ES256.

    Raises ConfigError with what is missing.
    """
    account = next((each for each in config.account if each.name == name), None)
    if account is None:
        there = ", ".join(each.name for each in config.account) or "none"
        raise ConfigError(file, [f"there is no account {name!r} (accounts: {there})"])
    key = _key(account, file, key_id)
    if key.algorithm == "HS256":
        assert key.secret is not None
        secret: str | EllipticCurvePrivateKey = key.secret.get_secret_value()
        if path is not None:
            raise ConfigError(file, [f"key {key.id!r} is HS256 and has its secret there: no --key"])
    else:
        secret = _private(file, key, path)
    return Signer(config.region.id, name, key.id, key.algorithm, secret)


def by_file(path: str, name: str, key_id: str | None, region: str | None) -> Signer:
    """A key file signs, of which no configuration is at hand. Raises ConfigError."""
    missing = [
        f"{option} is needed with --key and without --config"
        for option, value in (("--kid", key_id), ("--region", region))
        if value is None
    ]
    if missing:
        raise ConfigError(path, missing)
    assert key_id is not None and region is not None
    text = _text(path)
    if text.startswith("-----BEGIN"):
        return Signer(region, name, key_id, "ES256", _load(path, text))
    try:
        key = TokenKey.model_validate({"id": key_id, "secret": text})
    except ValidationError as error:
        raise ConfigError(path, [each["msg"] for each in error.errors()]) from None
    assert key.secret is not None
    return Signer(region, name, key.id, "HS256", text)


def _key(account: Account, file: str, key_id: str | None) -> TokenKey:
    """The one that is asked for; the first one by default."""
    for key in account.keys:
        if key_id in (None, key.id):
            return key
    there = ", ".join(key.id for key in account.keys)
    raise ConfigError(file, [f"account {account.name!r} has no key {key_id!r} (keys: {there})"])


def _private(file: str, key: TokenKey, path: str | None) -> EllipticCurvePrivateKey:
    """Raises ConfigError, also for the key of another public one."""
    if path is None:
        raise ConfigError(
            file, [f"key {key.id!r} is ES256: give the account's private key with --key FILE"]
        )
    found = private_key(path)
    try:
        public = key.read()
    except CertificateError as error:
        raise ConfigError(file, [str(error)]) from None
    if found.public_key() != public:
        raise ConfigError(path, [f"is not the private key of {key.public_key} (key {key.id!r})"])
    return found


def private_key(path: str) -> EllipticCurvePrivateKey:
    """That ES256 signs with, a PEM file. Raises ConfigError."""
    return _load(path, _text(path))


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(path, [f"cannot be read: {why}"]) from None


def _load(path: str, text: str) -> EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(text.encode(), None)
    except Exception:  # cryptography has several of its own; none may show what the file holds
        raise ConfigError(path, ["is not a private key in PEM without a password"]) from None
    if not isinstance(found, EllipticCurvePrivateKey) or not isinstance(found.curve, SECP256R1):
        raise ConfigError(path, ["is not a key of P-256, which ES256 needs"])
    return found

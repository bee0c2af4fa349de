"""An account of the configuration: whose voice clients they are, and what proves it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from pydantic import Field, field_validator, model_validator

from relay.config.certificate import read_public_key
from relay.config.peer import Peer
from relay.config.values import Count, Name, Secret, Section, Switch
from relay.sdp.crypto import Srtp

SECRET_OCTETS = 32  # RFC 7518 section 3.2: a key of HS256 is as long as its hash
NUMBER = re.compile(r"\+[1-9][0-9]{1,14}")

VerifyingKey = bytes | EllipticCurvePublicKey

MOST_OCTETS = 2 << 20  # some 50,000 revoked tokens, which live for a day at most


class TokenKey(Section):
    """What the access tokens of an account are signed with (RFC 7518).

    HS256 has a `secret` that the account's own servers share; ES256 the `public_key` of the
    account, a PEM file. `id` is the token's `kid`.
    """

    id: Name
    algorithm: Literal["HS256", "ES256"] = "HS256"
    secret: Secret | None = None
    public_key: str | None = None

    @model_validator(mode="after")
    def _check_key(self) -> TokenKey:
        wanted, other = ("secret", "public_key")[:: 1 if self.algorithm == "HS256" else -1]
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.algorithm} has a {wanted} and no {other}")
        if self.secret is not None and len(self.secret.get_secret_value()) < SECRET_OCTETS:
            raise ValueError(f"secret: HS256 needs at least {SECRET_OCTETS} characters")
        if self.secret is not None and self.secret.get_secret_value().startswith("-----BEGIN"):
            raise ValueError("secret: is a PEM file; keys of that kind are for ES256")
        return self

    def read(self) -> VerifyingKey:
        """What verifies its signatures. Raises CertificateError for a file that cannot be used."""
        if self.secret is not None:
            return self.secret.get_secret_value().encode()
        assert self.public_key is not None
        return read_public_key(self.public_key)


class Account(Peer):
    """The voice clients of one app. Each has an identity, which its access token names.

    `revoked` is a file of token ids (`jti`), one a line, read again when it changes.
    `caller_number` is who they are to a trunk, unless their token says.
    """

    keys: Annotated[tuple[TokenKey, ...], Field(min_length=1, max_length=10)]
    revoked: str | None = None
    caller_number: str | None = None
    # Of one identity: how many devices may be registered, and for how long at most.
    contacts: Annotated[int, Field(strict=True, ge=1, le=100)] = 10
    registration_s: Annotated[int, Field(strict=True, ge=60, le=86400)] = 600
    reconnect_s: Annotated[float, Field(strict=True, ge=0, le=300)] = 30.0
    clients: Count = 10000
    # An offer to a peer without a codec in common has ours beside its own.
    transcode: Switch = True

    # What a trunk may choose and a voice client cannot: its media are DTLS-SRTP by ICE, over
    # TLS where it does not come through a proxy of ours.
    secure: ClassVar[bool] = False
    trusted: ClassVar[bool] = False
    symmetric_rtp: ClassVar[bool] = False
    try_next_after_s: ClassVar[float] = 4.0

    @property
    def media_security(self) -> Srtp:
        """A voice client's media are DTLS-SRTP, always."""
        return Srtp("dtls", ("AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"))

    @field_validator("caller_number")
    @classmethod
    def _check_number(cls, value: str | None) -> str | None:
        if value is not None and NUMBER.fullmatch(value) is None:
            raise ValueError(f"{value!r} is not an E.164 number such as +35315550100")
        return value

    @field_validator("keys")
    @classmethod
    def _check_ids(cls, value: tuple[TokenKey, ...]) -> tuple[TokenKey, ...]:
        for at, key in enumerate(value):
            if key.id in [other.id for other in value[:at]]:
                raise ValueError(f"id {key.id!r} is there twice")
        return value


def read_revoked(path: str) -> frozenset[str]:
    """The token ids (`jti`) of a file, one a line; empty lines and those with a # before them
    say nothing. Raises ValueError, with what is wrong with the file."""
    try:
        octets = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(octets) > MOST_OCTETS:
        raise ValueError(f"{path} has more than {MOST_OCTETS} octets")
    try:
        lines = [line.strip() for line in octets.decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    return frozenset(line for line in lines if line and not line.startswith("#"))

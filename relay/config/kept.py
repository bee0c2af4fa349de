"""What is kept, under which keys, and who may read it: sections of a region's configuration."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from pydantic import Field, field_validator

from relay.config.certificate import read_public_key
from relay.config.values import Count, Name, Secret, Section

_ENDPOINT = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?")
_ANCHOR = re.compile(r"file:.+|https://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/[!-~]*")


class Keys(Section):
    """The region's keys: a directory, which `relay keys create` fills."""

    directory: str = "var/keys"


class S3(Section):
    """An S3-compatible store. `endpoint` is https://HOST[:PORT] inside the region; `region` is
    where the bucket must say that it is."""

    endpoint: str
    region: Annotated[str, Field(min_length=1)]
    access_key: Annotated[str, Field(min_length=1)]
    secret_key: Secret
    # A file of authorities that its certificate is checked by; the system's by default.
    ca: str | None = None

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        if not _ENDPOINT.fullmatch(value):
            # Not repeated: it may hold a password.
            raise ValueError("it is not written https://HOST[:PORT] (of IPv6: a name)")
        return value

    @property
    def address(self) -> tuple[str, int]:
        """Of the endpoint: host, which may be a name, and port."""
        parts = urlsplit(self.endpoint)
        return parts.hostname or "", parts.port or 443


class Audit(Section):
    """The audit log: a directory of entries. A checkpoint is signed after so many of them, and
    after so long; `anchors` are told it: `file:PATH` or `https://HOST/PATH`, inside the region."""

    directory: str = "var/audit"
    checkpoint_entries: Count = 1000
    checkpoint_s: Annotated[float, Field(strict=True, ge=1, le=86400)] = 3600.0
    anchors: tuple[str, ...] = ()
    # A file of authorities that their certificates are checked by; the system's by default.
    anchor_ca: str | None = None

    @field_validator("anchors")
    @classmethod
    def _known(cls, anchors: tuple[str, ...]) -> tuple[str, ...]:
        for anchor in anchors:
            if _ANCHOR.fullmatch(anchor) is None:
                raise ValueError(f"{anchor!r} is neither file:PATH nor https://HOST[:PORT]/PATH")
        return anchors


class StaffKey(Section):
    """What the tokens of staff are signed with, by ES256: the public key (PEM) of who issues
    them. `id` is the token's `kid`; `jurisdictions` are those that it may say, by default any."""

    id: Name
    public_key: str
    jurisdictions: tuple[str, ...] = ()

    def read(self) -> EllipticCurvePublicKey:
        """Raises CertificateError for a file that cannot be used."""
        return read_public_key(self.public_key)


class Access(Section):
    """Who may read what is kept. Staff of another jurisdiction than these (by default the
    region's) need a grant, which `approvals` approvers inside give, for so long at most."""

    keys: tuple[StaffKey, ...] = ()
    # A file of token ids (`jti`) that are not taken any more, one a line.
    revoked: str | None = None
    jurisdictions: tuple[str, ...] = ()
    approvals: Annotated[int, Field(strict=True, ge=1, le=2)] = 1
    longest_grant_h: Annotated[float, Field(strict=True, gt=0, le=8760)] = 72.0

"""Tokens of staff: an ES256 JWT of the type `staff+jwt` that says who, whose law, which roles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from relay.access.roles import Role, Staff
from relay.config import IDENTITY
from relay.errors import TokenRefused
from relay.residency.claims import (
    STAFF_TYPE,
    Claims,
    check_region,
    malformed,
    seconds_left,
    text,
    token_id,
    unknown_key,
    verified,
)

LONGEST_JURISDICTION = 64


class StaffTokens:
    """The keys of who issues them (`[access] keys`), by `kid`, and the ids that are revoked;
    `speaks_for` are the jurisdictions that a key may say, if not any."""

    def __init__(
        self,
        region: str,
        keys: Mapping[str, EllipticCurvePublicKey],
        revoked: Collection[str] = (),
        speaks_for: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._region = region
        self._keys = keys
        self._speaks_for = speaks_for or {}
        self.revoked = revoked

    def admit(self, token: str, now: datetime) -> Staff:
        """Whose token it is. Raises TokenRefused."""
        claims = verified(token, self._key)
        check_region(claims, self._region)
        name, jurisdiction = text(claims, "sub"), text(claims, "jurisdiction")
        if IDENTITY.fullmatch(name) is None:
            raise malformed("sub is a name of letters, digits, dot, dash and underscore")
        if len(jurisdiction) > LONGEST_JURISDICTION or not jurisdiction.isprintable():
            raise malformed(f"jurisdiction is up to {LONGEST_JURISDICTION} printable characters")
        if token_id(claims) in self.revoked:
            raise TokenRefused("revoked", "this access token has been revoked")
        left = timedelta(seconds=seconds_left(claims, now.timestamp()))
        return Staff(name, jurisdiction, _roles(claims), now + left)

    def _key(self, header: Claims, claims: Claims) -> tuple[str, EllipticCurvePublicKey]:
        if header.get("typ") != STAFF_TYPE:
            raise TokenRefused(
                "not_staff", f"this is no token of staff: its typ is not {STAFF_TYPE}"
            )
        if not self._keys:
            raise TokenRefused("unknown_key", "no key of staff is configured ([access] keys)")
        key = self._keys.get(text(header, "kid"))
        if key is None:
            raise unknown_key()
        limits = self._speaks_for.get(text(header, "kid"))
        if limits and claims.get("jurisdiction") not in limits:
            raise TokenRefused(
                "other_jurisdiction", f"its key speaks for {' and '.join(limits)} only"
            )
        return "ES256", key


def _roles(claims: Claims) -> frozenset[Role]:
    """A role that is not known here makes the whole token unusable."""
    names = claims.get("roles")
    if not isinstance(names, list) or not names:
        raise malformed("roles is missing, or no list of roles")
    try:
        return frozenset(Role(name) for name in names)
    except ValueError:
        known = ", ".join(role.value for role in Role)
        raise TokenRefused("unknown_role", f"roles names one that is none of {known}") from None

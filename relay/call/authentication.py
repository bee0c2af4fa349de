"""Who a request is from, when an address alone does not say so (RFC 3261 section 22).

A trunk with `allow` (or `tls_names`) and `credentials` must have both right. One with
`credentials` alone is known by its user name, from anywhere inside the region. Challenges
cost no state; ACK, CANCEL and requests inside a dialog are not challenged: a dialog's peer is
known by its address and tags, and many PBXs give up on a challenged re-INVITE.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from relay.errors import Challenged, MalformedMessage, Refused
from relay.sip.digest import Challenge, Credentials, ha1, of_realm
from relay.sip.message import Request
from relay.sip.nonce import Nonces
from relay.sip.transaction import Hop
from relay.sip.uri import OtherUri, SipUri, parse_uri

if TYPE_CHECKING:
    from relay.config import Trunk
    from relay.residency.boundary import Boundary

NEVER = frozenset(("ACK", "CANCEL"))  # RFC 3261 section 22.1: nobody could answer


class Scheme(NamedTuple):
    """How a challenge is made and met."""

    status: int
    challenge: str
    answer: str


REGISTRAR = Scheme(401, "WWW-Authenticate", "Authorization")
PROXY = Scheme(407, "Proxy-Authenticate", "Proxy-Authorization")


class User(NamedTuple):
    """A user name's trunk (None: there is no such user) and the HA1 of each algorithm."""

    trunk: Trunk | None
    keys: dict[str, str]


class Authentication:
    """The credentials of all trunks, and the nonces of this node."""

    def __init__(
        self,
        trunks: Iterable[Trunk],
        realm: str,
        boundary: Boundary,
        secret: bytes,
        algorithms: tuple[str, ...] = ("SHA-256", "MD5"),
    ) -> None:
        """`algorithms` are offered in this order (RFC 8760 section 2.3)."""
        self._algorithms = algorithms
        self._realm = realm
        self._boundary = boundary
        self._nonces = Nonces(secret)
        # By (trunk that the source is of, user name); "" for those known by name alone.
        self._users: dict[tuple[str, str], User] = {}
        for trunk in trunks:
            for credential in trunk.credentials:
                name = credential.username
                keys = self._keys(name, credential.password.get_secret_value())
                owner = trunk.name if trunk.allow or trunk.tls_names else ""
                self._users[owner, name] = User(trunk, keys)
        self._strangers = any(owner == "" for owner, _ in self._users)
        # A user that does not exist takes as long to refuse as a wrong password.
        self._nobody = User(None, self._keys("", secret.hex()))

    def is_due(self, request: Request, source: Hop, trunk: Trunk) -> bool:
        """Whether a request from an address of `trunk` needs credentials.

        In clear to a secure trunk it is refused as it is, and no password is asked for.
        """
        return (
            bool(trunk.credentials)
            and (source.transport == "tls" or not trunk.secure)
            and request.method not in NEVER
            and request.method != "OPTIONS"
            and request.to.tag is None
        )

    def may_be_known(self, request: Request, source: Hop) -> bool:
        """Whether a stranger is asked who it is: a trunk is known by name, and `source` is
        inside the region."""
        return (
            self._strangers
            and request.method not in NEVER
            and request.to.tag is None
            and self._boundary.permits(source.host)
        )

    def identify(self, request: Request, source: Hop, trunk: Trunk | None, now: float) -> Trunk:
        """The trunk that a request proves to be from; `trunk` is the one of its address.

        Raises Challenged (401, 407), or Refused (400) for credentials that make no sense.
        """
        scheme = REGISTRAR if request.method == "REGISTER" else PROXY
        given = self._given(request, scheme)
        if given is None:
            raise self._challenge("missing", scheme, source, now)
        # Before the password: who has no nonce of ours may have forged its address, and is
        # neither to learn whether a password is right nor to have that address banned.
        if not self._nonces.holds(given.nonce, source.host, now):
            raise self._challenge("stale", scheme, source, now)
        owner = trunk.name if trunk is not None else ""
        user = self._users.get((owner, given.username), self._nobody)
        right = given.proves(user.keys[given.algorithm], request.method)
        if not right or user.trunk is None:
            raise self._challenge("wrong", scheme, source, now)
        if not covers(given.uri, request.uri):
            raise Refused(400, "the uri of the digest credentials is not that of the request")
        if not self._nonces.take(given.nonce, int(given.count, 16), source.host, now):
            raise self._challenge("stale", scheme, source, now)
        return user.trunk

    def _given(self, request: Request, scheme: Scheme) -> Credentials | None:
        try:
            given = of_realm(request.headers.fields(scheme.answer), self._realm)
        except MalformedMessage as error:
            raise Refused(400, str(error)) from None
        if given is None:
            return None
        if given.algorithm not in self._algorithms:
            raise Refused(400, f"digest algorithms here: {' and '.join(self._algorithms)}")
        if given.qop != "auth":  # without it nothing tells a replay
            raise Refused(400, "digest credentials need qop=auth")
        return given

    def _challenge(
        self, why: Literal["missing", "wrong", "stale"], scheme: Scheme, source: Hop, now: float
    ) -> Challenged:
        nonce = self._nonces.make(source.host, now)
        return Challenged(
            scheme.status,
            why,
            tuple(
                (
                    scheme.challenge,
                    str(
                        Challenge(self._realm, nonce, algorithm, ("auth",), stale=why == "stale"),
                    ),
                )
                for algorithm in self._algorithms
            ),
        )

    def _keys(self, username: str, password: str) -> dict[str, str]:
        return {name: ha1(name, username, self._realm, password) for name in self._algorithms}


def covers(given: str, wanted: str) -> bool:
    """Whether credentials for one URI are good for a request to another.

    RFC 7616 section 3.4.6 wants them to be equivalent. Port and parameters, which a proxy
    may change, are not compared, and a URI without a user stands for all users of its host.
    """
    if given == wanted:
        return True
    try:
        first, second = parse_uri(given), parse_uri(wanted)
    except MalformedMessage:
        return False
    if isinstance(first, OtherUri) or isinstance(second, OtherUri):
        return False
    return _place(first) == _place(second) and first.user in (None, second.user)


def _place(uri: SipUri) -> tuple[str, str]:
    return uri.scheme, uri.host.lower()

"""How a voice client presents its access token: as Bearer (RFC 8898), or in a digest.

Libraries that know nothing but digest give the token as user name and as password. It then
proves no more than Bearer would; what it adds is the nonce, made for this connection: an answer
that was overheard is good for nothing. That hash protects no password, so MD5 will do, and comes
last: JsSIP and SIP.js know no other, and of several challenges keep the last one only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from relay.call.authentication import PROXY, REGISTRAR, Scheme, covers
from relay.errors import Challenged, MalformedMessage, Refused
from relay.residency.claims import MOST_OCTETS, malformed
from relay.sip.digest import Challenge, Credentials, ha1, of_realm
from relay.sip.nonce import Nonces

if TYPE_CHECKING:
    from relay.call.clients import Client
    from relay.call.tokens import Tokens
    from relay.sip.message import Request
    from relay.sip.transaction import Hop

ALGORITHMS = ("SHA-256", "MD5")
ANSWERS = (REGISTRAR.answer, PROXY.answer)
Fields = tuple[tuple[str, str], ...]


class TokenCheck:
    """Finds the token of a request, and asks for one."""

    def __init__(self, tokens: Tokens, realm: str, secret: bytes) -> None:
        """`secret` keys the nonces."""
        self.tokens = tokens
        self._realm = realm
        self._nonces = Nonces(secret)

    def is_presented(self, request: Request) -> bool:
        """Whether a request carries credentials of any kind."""
        return any(name in request.headers for name in ANSWERS)

    def identify(self, request: Request, source: Hop, now: float) -> Client:
        """Whose request it is.

        Raises Challenged without a token, TokenRefused for one that proves nobody, Refused (400)
        for credentials that make no sense.
        """
        token = _bearer(request)
        if token is not None:
            return self.tokens.admit(token, now)
        return self._by_digest(request, source, now)

    def challenge(self, request: Request, source: Hop, now: float, refused: str = "") -> Fields:
        """The challenges to a request; `refused` is what was wrong with its token."""
        return self._fields(_scheme(request), source, now, False, refused)

    def status(self, request: Request) -> int:
        """That goes with a challenge."""
        return _scheme(request).status

    # --- digest

    def _by_digest(self, request: Request, source: Hop, now: float) -> Client:
        scheme = _scheme(request)
        given = self._given(request)
        if given is None:
            raise self._challenged("missing", scheme, source, now)
        place = _place(source)
        if not self._nonces.holds(given.nonce, place, now):
            raise self._challenged("stale", scheme, source, now)
        token = given.username
        if len(token) > MOST_OCTETS:
            raise malformed(f"an access token has up to {MOST_OCTETS} octets")
        if not given.proves(ha1(given.algorithm, token, self._realm, token), request.method):
            raise self._challenged("wrong", scheme, source, now)
        if not covers(given.uri, request.uri):
            raise Refused(400, "the uri of the digest credentials is not that of the request")
        client = self.tokens.admit(token, now)
        if not self._nonces.take(given.nonce, int(given.count, 16), place, now):
            raise self._challenged("stale", scheme, source, now)
        return client

    def _given(self, request: Request) -> Credentials | None:
        try:
            fields = [value for name in ANSWERS for value in request.headers.fields(name)]
            given = of_realm(fields, self._realm)
        except MalformedMessage as error:
            raise Refused(400, str(error)) from None
        if given is None:
            return None
        if given.algorithm not in ALGORITHMS:
            raise Refused(400, f"digest algorithms here: {' and '.join(ALGORITHMS)}")
        if given.qop != "auth":  # without it nothing tells a replay
            raise Refused(400, "digest credentials need qop=auth")
        return given

    def _challenged(
        self, why: Literal["missing", "wrong", "stale"], scheme: Scheme, source: Hop, now: float
    ) -> Challenged:
        told = "the access token is the digest user name and its password" if why == "wrong" else ""
        fields = self._fields(scheme, source, now, why == "stale", told)
        return Challenged(scheme.status, why, fields)

    def _fields(self, scheme: Scheme, source: Hop, now: float, stale: bool, refused: str) -> Fields:
        nonce = self._nonces.make(_place(source), now)
        challenges = [
            str(Challenge(self._realm, nonce, algorithm, ("auth",), stale=stale))
            for algorithm in ALGORITHMS
        ]
        error = f', error="invalid_token", error_description="{refused}"' if refused else ""
        fields = [f'Bearer realm="{self._realm}"{error}', *challenges]
        warning = [("Warning", f'399 relay "{refused}"')] if refused else []
        return (*((scheme.challenge, value) for value in fields), *warning)


def _scheme(request: Request) -> Scheme:
    return REGISTRAR if request.method == "REGISTER" else PROXY


def _place(source: Hop) -> str:
    """What a nonce is good for: one connection."""
    return f"{source.host} {source.link}"


def _bearer(request: Request) -> str | None:
    """The token itself, be the word Bearer before it or not: JsSIP sends what it was given."""
    for name in ANSWERS:
        for value in request.headers.fields(name):
            scheme, _, rest = value.partition(" ")
            if scheme.lower() == "bearer":
                return rest.strip()
            if not rest and value.count(".") == 2:
                return value
    return None

"""Our own credentials at a trunk that asks for them (RFC 3261 sections 22.2 and 22.3).

A challenged request is sent once more with credentials and the next CSeq; a second challenge
is answered only when it says that the nonce was stale. What a trunk challenged with is kept,
so that its next requests carry credentials at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relay.call.invite import OutgoingInvite
from relay.errors import MalformedMessage
from relay.sip.digest import Challenge, best, ha1
from relay.sip.message import Request, Response
from relay.sip.transaction import ClientTransaction, Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.ports import Allows, TransactionUser
    from relay.config import Credential

# Status → where the challenge is, where the answer goes.
FIELDS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}
ANSWERS = ("Authorization", "Proxy-Authorization")
MOST_REALMS = 4  # of one trunk: proxies in a row, each with its own
MOST_TRIES = 4
_Key = tuple[str, str]  # field of the answer, realm


class Numbered(Protocol):
    """Whose requests are numbered: a dialog, or a registration."""

    local_cseq: int


class _Kept:
    """A challenge that can be answered again, with the next count."""

    __slots__ = ("challenge", "count", "ha1")

    def __init__(self, challenge: Challenge, key: str) -> None:
        self.challenge = challenge
        self.ha1 = key
        self.count = 0


class Login:
    """The user name and password that one trunk knows us by."""

    __slots__ = ("_calls", "_kept", "_password", "_username", "trunk")

    def __init__(self, trunk: str, credential: Credential, calls: Calls) -> None:
        self.trunk = trunk
        self._username = credential.username
        self._password = credential.password.get_secret_value()
        self._calls = calls
        self._kept: dict[_Key, _Kept] = {}

    def request(
        self,
        request: Request,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        numbered: Numbered | None = None,
        call: str = "-",
        allows: Allows | None = None,
    ) -> None:
        """As `Signalling.request`; `numbered` counts the CSeq of a dialog, `call` is for the log.

        Without `numbered` it is an initial INVITE.
        """
        self.authorize(request)
        exchange = Exchange(self, target, reuse, user, numbered, call, allows)
        self._calls.signalling.request(request, target, reuse, exchange, allows)

    def authorize(self, request: Request) -> None:
        """Add the answers to all that is kept."""
        for (field, _), kept in self._kept.items():
            kept.count += 1
            given = kept.challenge.answer(
                self._username,
                kept.ha1,
                request.method,
                request.uri,
                kept.count,
                self._calls.token(),
            )
            request.headers.add(field, str(given))

    def keep(self, field: str, challenge: Challenge) -> None:
        """A challenge to be answered from now on.

        A nonce that is known counts on: some carriers give all calls of a second the same.
        """
        key = (field, challenge.realm)
        kept = self._kept.pop(key, None)
        if kept is None or kept.challenge.algorithm != challenge.algorithm:
            secret = ha1(challenge.algorithm, self._username, challenge.realm, self._password)
            kept = _Kept(challenge, secret)
        elif kept.challenge.nonce != challenge.nonce:
            kept = _Kept(challenge, kept.ha1)
        self._kept[key] = kept
        if len(self._kept) > MOST_REALMS:
            del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        self._kept.clear()

    def refused(self, request: Request, status: int, why: str, call: str) -> None:
        """Tell the operator that this trunk does not take our credentials."""
        self._calls.counters["credentials_refused"] += 1
        self._calls.journal.event(
            "credentials_refused",
            call,
            trunk=self.trunk,
            method=request.method,
            status=status,
            problem=why,
        )

    def send(
        self,
        request: Request,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        allows: Allows | None,
    ) -> None:
        self._calls.signalling.request(request, target, reuse, user, allows)


class Exchange:
    """One request and its repetition: the transaction user between it and who sent it."""

    __slots__ = (
        "_allows",
        "_answered",
        "_call",
        "_login",
        "_numbered",
        "_reuse",
        "_stale",
        "_target",
        "_tries",
        "_user",
    )

    def __init__(
        self,
        login: Login,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        numbered: Numbered | None,
        call: str,
        allows: Allows | None,
    ) -> None:
        self._login = login
        self._target = target
        self._reuse = reuse
        self._user: TransactionUser = user  # type: ignore[assignment]
        self._numbered = numbered
        self._call = call
        self._allows = allows
        self._answered: set[_Key] = set()
        self._stale = False
        self._tries = 1

    def on_response(self, tx: ClientTransaction, response: Response, now: float) -> None:
        if response.status not in FIELDS or not self._meet(tx.request, response):
            self._user.on_response(tx, response, now)

    def on_no_response(self, status: int, now: float) -> None:
        self._user.on_no_response(status, now)

    def _meet(self, request: Request, response: Response) -> bool:
        """Send the request again with what was asked for; False when there is no use in it."""
        invite = self._user if isinstance(self._user, OutgoingInvite) else None
        if invite is not None and invite.cancelled:
            return False
        problem = self._take(response)
        if problem:
            self._login.forget()
            self._login.refused(request, response.status, problem, self._call)
            return False
        self._tries += 1
        again = self._again(request)
        self._login.authorize(again)
        if invite is not None:
            invite.start_again(again)
        self._login.send(again, self._target, self._reuse, self, self._allows)
        return True

    def _take(self, response: Response) -> str:
        """Keep the challenges of a response; what is wrong with them, or ""."""
        field, answer = FIELDS[response.status]
        try:
            offered = [c for v in response.headers.fields(field) for c in Challenge.parse(v)]
        except MalformedMessage as error:
            return str(error)
        challenges = best(offered)[:MOST_REALMS]
        if not challenges:
            return "no digest algorithm of its challenge is known here"
        for challenge in challenges:
            key = (answer, challenge.realm)
            if key in self._answered:
                if not challenge.stale or self._stale:
                    return "the user name or password is refused"
                self._stale = True
            if self._tries >= MOST_TRIES:
                return "it asks for credentials without end"
            self._answered.add(key)
            self._login.keep(answer, challenge)
        return ""

    def _again(self, request: Request) -> Request:
        """A copy with the next CSeq; the Via is the transaction layer's."""
        if self._numbered is None:
            number = request.cseq.number + 1
        else:
            number = self._numbered.local_cseq = self._numbered.local_cseq + 1
        headers = request.headers.copy()
        for name in ("Via", *ANSWERS):
            headers.remove(name)
        headers.set("CSeq", f"{number} {request.method}")
        return Request(request.method, request.uri, headers, request.body)

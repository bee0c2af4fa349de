"""Which transaction a message belongs to (RFC 3261 sections 17.1.3, 17.2.3 and 8.2.2.2)."""

from __future__ import annotations

from os import urandom

from relay.sip.headers import Via
from relay.sip.message import Request
from relay.sip.outputs import Hop

COOKIE = "z9hG4bK"  # RFC 3261 section 8.1.1.7
Key = tuple[str, ...]


def new_branch() -> str:
    """A branch that nobody can guess, so nobody can answer in another's place."""
    return COOKIE + urandom(12).hex()


def is_unique(branch: str | None) -> bool:
    # The bare cookie (RFC 4475 section 3.2.1) identifies nothing.
    return branch is not None and branch.startswith(COOKIE) and len(branch) > len(COOKIE)


def server_key(request: Request, via: Via, method: str, source: Hop) -> Key:
    """What makes a server transaction (RFC 3261 section 17.2.3), before the Via is marked.

    `method` is that of the transaction looked for; an ACK belongs to its INVITE. The last part
    is who it came from: many stacks count their branches, and nobody may cancel the call of
    another. The second form is for RFC 2543 peers. Raises MalformedMessage.
    """
    if method == "ACK":
        method = "INVITE"
    branch = via.branch
    if branch is not None and is_unique(branch):
        return (branch, via.sent_by.lower(), method, whose(source))
    return (
        request.uri,
        request.from_.tag or "",
        request.call_id,
        str(request.cseq.number),
        str(via),
        method,
        whose(source),
    )


def whose(source: Hop) -> str:
    """Who speaks there: an address, or one of the voice clients that may be behind it."""
    return f"{source.host} {source.link}" if source.is_websocket else source.host


def merge_key(request: Request) -> Key:
    """Equal for copies of one request on several paths. Raises MalformedMessage."""
    return (
        request.call_id,
        request.from_.tag or "",
        str(request.cseq.number),
        request.method,
    )

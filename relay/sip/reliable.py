"""Reliable provisional responses (RFC 3262): RSeq, RAck, and their order."""

from __future__ import annotations

from typing import NamedTuple

from relay.errors import MalformedMessage
from relay.sip.headers import parse_number
from relay.sip.message import Request, Response
from relay.sip.options import requires

OPTION = "100rel"
MOST = 2**32 - 1
FIRST_AT_MOST = 2**31 - 1  # section 3: so that it cannot wrap in one transaction


class RAck(NamedTuple):
    """Which response a PRACK acknowledges: its RSeq, and the CSeq of its request."""

    rseq: int
    cseq: int
    method: str

    @staticmethod
    def of(request: Request) -> RAck | None:
        """None when there is none or it cannot be read."""
        fields = (request.headers.get("RAck") or "").split()
        try:
            if len(fields) != 3:
                return None
            rseq = parse_number(fields[0], MOST, "RAck")
            return RAck(rseq, parse_number(fields[1], MOST, "RAck"), fields[2])
        except MalformedMessage:
            return None

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


def rseq_of(response: Response) -> int | None:
    """The RSeq of a reliable provisional response; None for any other one."""
    raw = response.headers.get("RSeq")
    if raw is None or not 100 < response.status < 200:
        return None
    if not requires(response, OPTION):
        return None
    try:
        return parse_number(raw.strip(), MOST, "RSeq")
    except MalformedMessage:
        return None


def is_next(last: int | None, rseq: int) -> bool:
    """Whether a response is the one to acknowledge (section 4): a repeat is dropped, and so
    is one that overtook another, which will come again."""
    return last is None or rseq == last + 1

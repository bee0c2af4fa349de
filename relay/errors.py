"""Every expected failure of the relay.

A failure says whose fault it is (`fault`) and, where it can be told to a SIP peer,
with which status code (`status_hint`). Anything else that is raised is a bug.
"""

from __future__ import annotations

import os
from typing import ClassVar, Literal

Fault = Literal["us", "peer", "upstream"]


class RelayError(Exception):
    """Base of all expected failures."""

    fault: ClassVar[Fault] = "us"
    status_hint: ClassVar[int] = 500


class LocalProtocolError(RelayError):
    """We asked a protocol machine for something that its state does not allow."""


class RemoteProtocolError(RelayError):
    """The peer sent something that its protocol does not allow."""

    fault = "peer"
    status_hint = 400


class MalformedMessage(RemoteProtocolError):
    """Bytes that are not a usable SIP message (RFC 3261 section 7).

    `message` is the request as far as it could be read, when a 400 can be answered to
    it (a `relay.sip.message.Request`), else None.
    """

    def __init__(self, text: str, message: object | None = None) -> None:
        super().__init__(text)
        self.message = message


class OutOfOrder(RemoteProtocolError):
    """A request inside a dialog with a lower CSeq than seen (RFC 3261 section 12.2.2)."""

    status_hint = 500


class MalformedSdp(RemoteProtocolError):
    """A session description that cannot be parsed (RFC 8866 section 9)."""


class NotAcceptable(RemoteProtocolError):
    """A well-formed offer or answer that the relay cannot carry (RFC 3264 section 6)."""

    status_hint = 488


class NoCommonCodec(NotAcceptable):
    """The two sides have no codec in common, and none that can be transcoded."""


class Unrecordable(NotAcceptable):
    """What the two sides agree on cannot be recorded, and a peer requires that it is."""


class WrongAnswer(NotAcceptable):
    """An answer that does not fit the offer: the fault is not the offerer's."""

    status_hint = 502


class Refused(RelayError):
    """A call that policy refuses: the peer is shown `text`, and nothing of other trunks; the
    log gets `detail` where there is more to say."""

    fault = "peer"

    def __init__(
        self, status: int, text: str, retry_after_s: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(detail or text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s


class Challenged(RemoteProtocolError):
    """A request that lacks credentials, or has wrong or old ones (RFC 3261 section 22).

    `fields` are the challenges as header fields.
    """

    def __init__(
        self,
        status: int,
        why: Literal["missing", "wrong", "stale"],
        fields: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(f"digest credentials: {why}")
        self.status = status
        self.why = why
        self.fields = fields


class TokenRefused(RemoteProtocolError):
    """An access token that proves nobody; `reason` counts it, the text tells its client."""

    status_hint = 401

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class IntervalTooSmall(RelayError):
    """A session timer shorter than we take (RFC 4028 section 6); the answer says `least_s`."""

    fault = "peer"
    status_hint = 422

    def __init__(self, least_s: int) -> None:
        super().__init__(f"the shortest session interval here is {least_s} s")
        self.least_s = least_s


class IntervalTooBrief(RelayError):
    """A registration shorter than we keep (RFC 3261 section 10.3); the answer says `least_s`."""

    fault = "peer"
    status_hint = 423

    def __init__(self, least_s: int) -> None:
        super().__init__(f"the shortest registration here is {least_s} s")
        self.least_s = least_s


class NoMediaPorts(RelayError):
    """The port pool is exhausted: 503 with Retry-After."""

    status_hint = 503


class ListenError(RelayError):
    """An address could not be bound at start; the text names address, port and who to ask."""


def cannot_bind(transport: str, host: str, port: int, error: OSError) -> ListenError:
    """What failed, where, and who can tell why."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    kind = "ulnp" if transport == "udp" else "tlnp"
    cause = error if error.errno else error.__cause__ or error.__context__
    number = getattr(cause, "errno", None)  # uvloop has it one step down
    reason = os.strerror(number) if number else str(error)
    return ListenError(
        f"cannot listen on {transport}:{where}: {reason}; "
        f"`ss -{kind} 'sport = :{port}'` shows who holds the port"
    )


class CertificateError(RelayError):
    """A certificate, key or list of authorities that cannot be used; the text names the file."""


class StoreError(RelayError):
    """Recordings are configured and cannot be written: known at start rather than at a call."""


class StoreAway(StoreError):
    """The store does not answer, or not as it should: it may do so later. Nothing is lost."""

    status_hint = 503


class StoreConflict(StoreError):
    """Another object of that name is in the store, and stays there."""


class NotStored(StoreError):
    """There is no such object, in the store or on its way there."""

    fault = "peer"
    status_hint = 404


class Unclaimed(StoreError):
    """A recording that no call's record names, yet: nobody could fetch or erase it in the store."""


class StillRecorded(StoreError):
    """A recording that is still being made cannot be deleted."""

    status_hint = 409


class OutsideRegion(RelayError):
    """An address outside the region was to be used; `use` is what for (`residency.boundary`)."""

    fault = "peer"
    status_hint = 403

    def __init__(self, use: str, host: str) -> None:
        super().__init__(f"{host} is outside the region ({use})")
        self.use = use
        self.host = host


class KeyMissing(RelayError):
    """A key of the region that is needed and not there, or cannot be used; the text names it."""


class NotAuthentic(RelayError):
    """What was sealed, signed or encrypted was changed, or belongs to something else."""


class ManifestRefused(RelayError):
    """A manifest that is not signed as the configuration wants it; the text names what differs."""


class AuditUnavailable(RelayError):
    """The audit log cannot be written: what needs an entry is refused."""

    status_hint = 503


class AnchorFailed(RelayError):
    """A checkpoint of the audit log that an anchor did not take; it is told again."""

    fault = "upstream"


class DatabaseUnavailable(RelayError):
    """The database does not answer."""

    status_hint = 503


class Forbidden(RelayError):
    """Access that a role, a jurisdiction or a grant does not allow; `rule` names which."""

    fault = "peer"
    status_hint = 403

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule


class NotKept(RelayError):
    """A call, recording or grant that is asked for and is not kept here, or not any more."""

    fault = "peer"
    status_hint = 404


class TooLong(RelayError):
    """A recording that is too long for a format which is made whole, in memory."""

    fault = "peer"
    status_hint = 413


class ConfigError(RelayError):
    """A configuration that cannot be used; carries every mistake, not only the first."""

    def __init__(self, file: str, mistakes: list[str]) -> None:
        super().__init__(f"{file}: " + "; ".join(mistakes))
        self.file = file
        self.mistakes = mistakes

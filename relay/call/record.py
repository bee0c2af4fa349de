"""The record of a call: what is noted while it lasts, and kept when it is answered, when it has
ended, and when its recording is closed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from relay.call.clients import Client
from relay.call.ending import ended_by
from relay.call.events import CallEvent, Rejected
from relay.call.numbers import user_of
from relay.call.ports import RecordingEnded, Records, Side, StreamFigures
from relay.call.refusal import status_of
from relay.errors import Refused
from relay.residency.record import CallRecord, LegRecord, RecordingRecord, SideName
from relay.sip.reasons import REASONS

if TYPE_CHECKING:
    from relay.call.call import Call
    from relay.call.calls import Calls
    from relay.call.leg import Leg
    from relay.call.trail import Trail
    from relay.config import Trunk
    from relay.errors import RelayError
    from relay.sip.message import Request
    from relay.sip.transaction import Hop

NOTHING = StreamFigures()
_NAMES: dict[Side, SideName] = {Side.CALLER: "caller", Side.CALLEE: "callee"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where calls are: the region, this node of it, and the version of the region's manifest."""

    region: str
    node: str
    policy: str = ""


class Notes:
    """What the record of one call needs and nobody else remembers.

    `status` is what the caller got finally, `refused` what the callee's side answered.
    `recording` stands open from its start on, until its file is closed. All times go on from the
    start by the monotonic clock: a step of the time of day makes no call shorter or longer.
    """

    __slots__ = (
        *("_answered", "_called", "_caller", "_left", "_started"),
        *("recording", "refused", "status", "suites"),
    )

    def __init__(self, caller: str, called: str, now: datetime) -> None:
        self._caller = caller
        self._called = called
        self._started = now
        self._answered: datetime | None = None
        self._left: tuple[LegRecord, ...] = ()  # whose side a transfer's target has now
        self.status: int | None = None
        self.refused: int | None = None
        self.suites: dict[Side, str] = {}  # of a voice client, once DTLS has chosen it
        self.recording: RecordingRecord | None = None

    def answered(self, call: Call, now: float) -> CallRecord:
        """The caller got its 200."""
        self._answered, self.status = self._at(call, now), 200
        return self._record(call, {})

    def so_far(self, call: Call) -> CallRecord:
        """The call lasts."""
        return self._record(call, {})

    def leaving(self, call: Call, leg: Leg) -> LegRecord:
        """A leg that is about to be transferred away, with its own codec and encryption."""
        return self._leg(call, leg, NOTHING)

    def left(self, record: LegRecord) -> None:
        """It was."""
        self._left += (record,)

    def ended(
        self, call: Call, event: CallEvent, why: str, figures: dict[Side, StreamFigures], now: float
    ) -> CallRecord:
        """The call is over; `why` in the words of the log."""
        if isinstance(event, Rejected):
            self.refused = event.status
        record = self._record(call, figures)
        by = ended_by(event, answered=self._answered is not None)
        return replace(record, ended=self._at(call, now), ended_by=by, reason=why)

    def _at(self, call: Call, now: float) -> datetime:
        return self._started + timedelta(seconds=now - call.started)

    def _record(self, call: Call, figures: dict[Side, StreamFigures]) -> CallRecord:
        place = call.calls.kept.place
        legs = tuple(self._leg(call, leg, figures.get(leg.side, NOTHING)) for leg in call.legs)
        return CallRecord(
            id=call.id,
            region=place.region,
            node=place.node,
            policy=place.policy,
            started=self._started,
            caller=self._caller,
            called=self._called,
            answered=self._answered,
            status=self.status,
            legs=legs + self._left,
            recording=self.recording,
        )

    def _leg(self, call: Call, leg: Leg, figures: StreamFigures) -> LegRecord:
        side, client = leg.side, leg.client
        number = user_of(leg.uri) if leg.uri else self._caller
        if client is not None:
            number = (client.number if leg.uri else client.caller_number) or ""
        status = self.status if leg is call.caller else 200 if leg.dialog else self.refused
        agreed = call.negotiation.agreed
        return LegRecord(
            side=_NAMES[side],
            peer=leg.trunk,
            kind="client" if client is not None else "trunk",
            identity=client.identity if client is not None else "",
            number=number,
            sip_call_id=leg.call_id,
            transport=leg.transport,
            codec=call.negotiation.codec_of(side) if agreed else "",
            encryption=self._encryption(call, side),
            status=status,
            reason=REASONS.get(status, "") if status is not None else "",
            packets=figures.packets,
            octets=figures.octets,
            relayed=figures.relayed,
            lost=figures.lost,
            jitter_ms=round(figures.jitter_ms, 2),
            mos=figures.mos,
            silence=figures.reason_for_silence or "",
            drops=figures.drops,
            seen=call.trail.seen(side) if call.has_had(leg) else (),
        )

    def _encryption(self, call: Call, side: Side) -> str:
        suite = call.negotiation.suite(side)
        return self.suites.get(side, suite) if suite == "DTLS" else suite or "none"


def refused(
    calls: Calls,
    trail: Trail,
    request: Request,
    source: Hop,
    caller: Trunk | Client,
    error: RelayError,
) -> CallRecord:
    """The record of a call that never came to be: who asked, where that would have led, and why
    not. `reason` has a text only where it is ours alone: others may quote the peer."""
    place, now = calls.kept.place, calls.wall_clock()
    status = status_of(error)
    reason = error.text if isinstance(error, Refused) else REASONS.get(status, "")
    client = caller if isinstance(caller, Client) else None
    peer = caller.account.name if isinstance(caller, Client) else caller.name
    number = client.identity if client is not None else user_of(str(request.from_.uri))
    leg = LegRecord(
        side="caller",
        peer=peer,
        kind="client" if client is not None else "trunk",
        identity=client.identity if client is not None else "",
        number=(client.caller_number or "") if client is not None else number,
        sip_call_id=request.call_id,
        transport=source.transport,
        status=status,
        reason=REASONS.get(status, ""),
        seen=trail.seen(Side.CALLER),
    )
    return CallRecord(
        id=trail.call_id,
        region=place.region,
        node=place.node,
        policy=place.policy,
        started=now,
        caller=number,
        called=user_of(request.uri),
        ended=now,
        status=status,
        ended_by="relay",
        reason=reason,
        legs=(leg,),
    )


class Bookkeeping:
    """All calls' records on their way out; those that have ended wait for their recording."""

    def __init__(self, records: Records, place: Place) -> None:
        self.place = place
        self._records = records
        self._recorded: dict[str, CallRecord] = {}

    @property
    def full(self) -> bool:
        """No call may begin: its record could not be kept."""
        return self._records.full

    def keep(self, record: CallRecord) -> None:
        if record.ended is not None and not record.final:
            self._recorded[record.id] = record
        self._records.keep(record)

    def recorded(self, ended: RecordingEnded) -> None:
        """The recording of a call that is over was closed."""
        record = self._recorded.pop(ended.call_id, None)
        if record is not None and record.recording is not None:
            self._records.keep(replace(record, recording=closed(record.recording, ended)))


def closed(opened: RecordingRecord, ended: RecordingEnded) -> RecordingRecord:
    """What is known of a recording in the end."""
    if ended.record is not None:
        return ended.record
    return replace(
        opened,
        object=ended.path,
        duration_s=round(ended.duration_s, 3),
        problem=ended.problem or "",
    )

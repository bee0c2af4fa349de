"""The API: call records, receipts, counts and the audit log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as Parameter
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from relay.access.ports import Query
from relay.access.reading import Page
from relay.control.access import Body, Here, Moment, RecordId, Who
from relay.control.ranges import Pieces, lines

LONGEST_PAGE = 200

Peer = Annotated[str | None, Parameter(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
After = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{0,128}$")]
router = APIRouter()


class NumberSearch(Body):
    """Calls of a number, from either side. It comes in a body: others log URLs."""

    number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$")]
    since: Moment | None = None
    until: Moment | None = None
    after: After = ""
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 50


@router.get("/calls")
async def calls(
    access: Here,
    staff: Who,
    peer: Peer = None,
    since: Moment | None = None,
    until: Moment | None = None,
    recorded: bool = False,
    pseudonyms: bool = False,
    after: After = "",
    limit: Annotated[int, Parameter(ge=1, le=LONGEST_PAGE)] = 50,
) -> JSONResponse:
    """Calls, the latest first: in clear as far as you may read them, else as pseudonyms. The
    page after this one begins `after` the id that `next` gives."""
    query = Query(peer=peer, since=since, until=until, recorded=recorded, limit=limit)
    return _page(await access.reading.calls(staff, query, access.now(), after, not pseudonyms))


@router.post("/calls/search")
async def search(access: Here, staff: Who, asked: NumberSearch) -> JSONResponse:
    """Calls of a number; from inside the region only."""
    query = Query(asked.number, since=asked.since, until=asked.until, limit=asked.limit)
    return _page(await access.reading.calls(staff, query, access.now(), asked.after))


@router.get("/counts")
async def counts(
    access: Here,
    staff: Who,
    peer: Peer = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> JSONResponse:
    """How many calls there were: everybody's to know, by hours."""
    query = Query(peer=peer, since=since, until=until)
    return JSONResponse(asdict(await access.reading.counts(staff, query, access.now())))


@router.get("/calls/{call_id}")
async def call(
    access: Here, staff: Who, call_id: RecordId, in_clear: bool | None = None
) -> JSONResponse:
    """One call. With `in_clear=true` it is refused where it would be given as pseudonyms."""
    return JSONResponse(await access.reading.call(staff, call_id, access.now(), in_clear))


@router.get("/calls/{call_id}/receipt")
async def receipt(access: Here, staff: Who, call_id: RecordId) -> JSONResponse:
    """The signed receipt, as `relay receipt verify` takes it."""
    return JSONResponse(await access.reading.receipt(staff, call_id, access.now()))


@router.get("/audit")
async def audit(access: Here, staff: Who, first: Annotated[int, Parameter(ge=1)] = 1) -> Response:
    """The audit log from an entry on, as `relay audit verify` takes it; from inside only."""
    found = await access.reading.audit_lines(staff, first, access.now())
    kind = {"content-type": "application/jsonl"}
    return Pieces(lines(found), None, kind, access.refused, access.download)


def _page(found: Page) -> JSONResponse:
    return JSONResponse({"calls": found.calls, "next": found.next})

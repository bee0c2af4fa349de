"""The API: grants, from the request to their end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from relay.access.grant import LONGEST_REASON, MOST_RECORDS, Grant, Scope
from relay.access.view import grant as shown
from relay.control.access import Body, Here, Moment, RecordId, Who

router = APIRouter()


class Span(Body):
    """Which calls: those that fit all of what is given. `records` are ids of calls or of their
    recordings, `peer` a trunk or an account; the times are of the call's start."""

    records: Annotated[
        tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=MOST_RECORDS)
    ] = ()
    peer: Annotated[str, Field(max_length=64)] = ""
    since: Moment | None = None
    until: Moment | None = None


class GrantRequest(Body):
    """`until` is when the grant ends by itself."""

    reason: Annotated[str, Field(max_length=LONGEST_REASON)]
    scope: Span
    until: Moment


@router.get("/grants")
async def grants(access: Here, staff: Who) -> JSONResponse:
    """All, for approvers and auditors inside; else your own. The latest first."""
    found = await access.granting.all(staff, access.now())
    return JSONResponse({"grants": [shown(each) for each in found]})


@router.get("/grants/{grant_id}")
async def grant(access: Here, staff: Who, grant_id: RecordId) -> JSONResponse:
    """One that you may see."""
    return JSONResponse(shown(await access.granting.find(staff, grant_id, access.now())))


@router.post("/grants", status_code=201)
async def request_grant(access: Here, staff: Who, asked: GrantRequest) -> JSONResponse:
    """Ask for the right to read some calls, for a reason and a time."""
    span = asked.scope
    scope = Scope(frozenset(span.records), span.peer, span.since, span.until)
    made: Grant = await access.granting.request(
        staff, asked.reason, scope, asked.until, access.now()
    )
    return JSONResponse(shown(made), 201, {"location": f"/v1/grants/{made.id}"})


@router.post("/grants/{grant_id}/approve")
async def approve(access: Here, staff: Who, grant_id: RecordId) -> JSONResponse:
    """One approval, by an approver inside who did not ask for it."""
    return JSONResponse(shown(await access.granting.approve(staff, grant_id, access.now())))


@router.post("/grants/{grant_id}/revoke")
async def revoke(access: Here, staff: Who, grant_id: RecordId) -> JSONResponse:
    """At once: what is being read by it ends."""
    return JSONResponse(shown(await access.granting.revoke(staff, grant_id, access.now())))

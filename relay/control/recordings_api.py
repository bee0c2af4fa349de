"""The API: recordings, as a whole or in ranges of their octets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from relay.access.ports import Format
from relay.access.reading import Audio
from relay.control.access import Access, Here, RecordId, Who
from relay.control.answers import refusal
from relay.control.ranges import Pieces, Unsatisfiable, spans, wanted

MOST_DOWNLOADS = 8  # at once

router = APIRouter()


@router.get("/recordings/{recording_id}")
async def recording(access: Here, staff: Who, recording_id: RecordId) -> JSONResponse:
    """What is known of a recording."""
    return JSONResponse(await access.reading.recording(staff, recording_id, access.now()))


@router.head("/recordings/{recording_id}/audio", include_in_schema=False)
@router.get("/recordings/{recording_id}/audio")
async def audio(
    request: Request,
    access: Here,
    staff: Who,
    recording_id: RecordId,
    format: Format = "wav",
    trim: bool | None = None,
    range: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """A recording, or a range of its octets. `trim` leaves out the silence at its ends; by
    default as its trunk or account has it."""
    if access.downloads >= MOST_DOWNLOADS:
        text = f"{MOST_DOWNLOADS} recordings are being sent already"
        return refusal(503, "downloads", text, retry_after="5")
    with access.download():
        found = await access.reading.play(staff, recording_id, access.now(), format, trim)
    token = request.headers["authorization"].partition(" ")[2].strip()
    # We give no validators: what If-Range names is none of ours (RFC 9110 section 13.1.5).
    return _answer(access, found, token, None if if_range else range)


def _answer(access: Access, found: Audio, token: str, field: str | None) -> Response:
    try:
        span = wanted(field, found.size)
    except Unsatisfiable:
        text = f"the recording has {found.size} octets in this format"
        return refusal(416, "range", text, content_range=f"bytes */{found.size}")
    headers = {"content-type": found.media_type, "accept-ranges": "bytes"}
    if span is not None:
        headers["content-range"] = f"bytes {span[0]}-{span[1] - 1}/{found.size}"

    async def read(start: int, end: int) -> bytes:
        now = access.now()
        access.tokens.admit(token, now)  # revoked or expired while it is being sent?
        return await found.read(start, end, now)

    start, end = span or (0, found.size)
    return Pieces(
        spans(read, start, end),
        end - start,
        headers,
        access.refused,
        access.download,
        200 if span is None else 206,
    )

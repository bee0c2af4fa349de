"""The API for staff: what it answers to whom, and that a refusal names its rule."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from relay.access.grant import Scope
from relay.access.staff import StaffTokens
from relay.control import http, recordings_api
from relay.control.access import Access
from relay.control.api import api
from relay.control.http import HttpServer, application
from relay.control.ranges import PIECE, Unsatisfiable, wanted
from relay.errors import KeyMissing
from tests.unit.access_fakes import Region
from tests.unit.access_samples import AOIFE, CALLER, HOUR, JANE, NOW, call, staff_token
from tests.unit.token_samples import PUBLIC, WALL

PATHS = (
    ("GET", "/calls"),
    ("POST", "/calls/search"),
    ("GET", "/calls/c1"),
    ("GET", "/calls/c1/receipt"),
    ("GET", "/counts"),
    ("GET", "/recordings/r-c1"),
    ("GET", "/recordings/r-c1/audio"),
    ("GET", "/audit"),
    ("GET", "/grants"),
    ("POST", "/grants"),
    ("GET", "/grants/g1"),
    ("POST", "/grants/g1/approve"),
    ("POST", "/grants/g1/revoke"),
)
REVIEWER = staff_token()
AUDITOR = staff_token(sub="una", roles=["auditor"])
APPROVER = staff_token(sub="aoife", roles=["approver"])
OUTSIDE = staff_token(sub="jane", roles=["reviewer"], jurisdiction="US")


class Node:
    """The whole application, with the API in it and three calls to read."""

    def __init__(self) -> None:
        self.region = Region()
        self.region.keep(call("c1"), call("c2", NOW - HOUR), call("c3", NOW - 2 * HOUR, "other"))
        self.now = NOW
        self.bugs: list[Exception] = []
        self.access = Access(
            StaffTokens("ie1", {"s1": PUBLIC}),
            self.region.reading,
            self.region.granting,
            self.region.audit,
            self.clock,
            self.bugs.append,
        )
        self.app: FastAPI = application(
            "ie1", (), lambda: False, {}, self.bugs.append, api(self.access)
        )

    def clock(self) -> datetime:
        return self.now

    def ask(
        self, path: str, token: str | None = REVIEWER, method: str = "GET", **more: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        headers |= more.pop("headers", {})

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
                return await client.request(method, f"/v1{path}", headers=headers, **more)

        answer = asyncio.run(exchange())
        assert not self.bugs, self.bugs
        return answer


def rule(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"rule", "text"} and error["text"]
    return str(error["rule"])


# --- who asks


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_good_token_there_is_nothing(method: str, path: str) -> None:
    node = Node()
    missing = node.ask(path, None, method)
    assert rule(missing, 401) == "missing" and missing.headers["www-authenticate"] == "Bearer"
    assert rule(node.ask(path, staff_token(exp=WALL - 1), method), 401) == "expired"
    assert rule(node.ask(path, staff_token(region="us1"), method), 401) == "other_region"
    assert rule(node.ask(path, REVIEWER[:-4] + "AAAA", method), 401) == "tampered"
    assert node.access.counters["staff_token_refused"] == 4
    reasons = [note.details["reason"] for note in node.region.audit.notes]
    assert reasons == ["expired", "other_region", "tampered"]
    assert node.region.audit.entries == []


def test_a_token_in_the_url_is_none() -> None:
    assert rule(Node().ask(f"/calls?access_token={REVIEWER}", None), 401) == "missing"


@pytest.mark.parametrize("path", ["/calls", "/grants", "/nothing", "/calls/c9"])
def test_no_answer_may_be_kept_by_others(path: str) -> None:
    headers = Node().ask(path).headers
    assert headers.get_list("cache-control") == ["no-store"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_a_path_that_is_none_and_a_method_that_is_none() -> None:
    assert rule(Node().ask("/nothing"), 404) == "no-such-path"
    assert rule(Node().ask("/calls", method="DELETE"), 405) == "method"


def test_it_describes_itself() -> None:
    found = Node().ask("/openapi.json", None).json()
    assert {f"{method} {path}" for path, of in found["paths"].items() for method in of} == {
        f"{method.lower()} {path}"
        for method, path in (
            *((m, p.replace("c1", "{call_id}").replace("g1", "{grant_id}")) for m, p in PATHS[:5]),
            ("GET", "/recordings/{recording_id}"),
            ("GET", "/recordings/{recording_id}/audio"),
            *((m, p.replace("g1", "{grant_id}")) for m, p in PATHS[7:]),
        )
    }
    assert "HTTPBearer" in found["components"]["securitySchemes"]


def test_a_bug_is_told_and_answered_without_its_text() -> None:
    node = Node()
    node.region.records.calls["c1"] = None  # type: ignore[assignment]
    headers = {"authorization": f"Bearer {REVIEWER}"}

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(node.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
            return await client.get("/v1/calls", headers=headers)

    assert rule(asyncio.run(exchange()), 500) == "bug" and node.bugs


# --- input


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/calls?limit=0", None, "limit"),
        ("/calls?limit=201", None, "limit"),
        ("/calls?since=yesterday", None, "since"),
        ("/calls?since=2026-11-26T00:00:00", None, "since"),
        ("/calls?until=9999-12-31T23:59:59-12:00", None, "until"),
        ("/counts?since=0001-01-01T00:00:00%2B14:00", None, "since"),
        ("/calls?peer=%00", None, "peer"),
        ("/calls?after=%00", None, "after"),
        ("/calls/%2B353861234567", None, "call_id"),
        ("/recordings/r-c1/audio?format=mp3", None, "format"),
        ("/audit?first=0", None, "first"),
        ("/calls/search", {"number": "0861234567"}, "number"),
        ("/calls/search", {"number": CALLER, "numbers": 1}, "numbers"),
        ("/grants", {"reason": "x", "until": "2026-11-26T04:00:00Z"}, "scope"),
        ("/grants", {"reason": "x", "scope": {}, "until": "soon"}, "until"),
    ],
)
def test_input_that_cannot_be_meant_names_its_field(
    path: str, body: dict[str, Any] | None, field: str
) -> None:
    answer = Node().ask(path, method="GET" if body is None else "POST", json=body)
    assert rule(answer, 422) == "input"
    assert answer.json()["error"]["text"].startswith(f"{field}: ")
    assert "861234567" not in answer.text  # what was sent is not repeated


def test_a_large_body_is_refused() -> None:
    big = {"number": CALLER, "after": "x" * 70_000}
    assert rule(Node().ask("/calls/search", method="POST", json=big), 413) == "http"


def test_json_that_is_none() -> None:
    answer = Node().ask("/grants", method="POST", content=b'{"reason": "')
    assert rule(answer, 422) == "input"


# --- calls


def test_calls_page_by_page() -> None:
    node = Node()
    first = node.ask("/calls?limit=2").json()
    assert [each["id"] for each in first["calls"]] == ["c1", "c2"]
    assert first["calls"][0]["caller"] == CALLER
    rest = node.ask(f"/calls?limit=2&after={first['next']}").json()
    assert [each["id"] for each in rest["calls"]] == ["c3"] and rest["next"] is None
    assert len(node.ask("/calls?peer=other").json()["calls"]) == 1
    assert rule(node.ask("/calls?after=c9"), 404) == "not-kept"


def test_from_outside_calls_are_pseudonyms() -> None:
    node = Node()
    answer = node.ask("/calls", OUTSIDE)
    assert {each["view"] for each in answer.json()["calls"]} == {"pseudonyms"}
    assert CALLER not in answer.text
    assert node.ask("/counts", OUTSIDE).json()["calls"] == 3
    refused = node.ask("/calls/c1?in_clear=true", OUTSIDE)
    assert rule(refused, 403) == "grant" and "from US" in refused.json()["error"]["text"]
    assert CALLER not in node.ask("/calls?pseudonyms=true").text


def test_a_number_is_searched_in_a_body() -> None:
    node = Node()
    found = node.ask("/calls/search", method="POST", json={"number": CALLER, "limit": 1}).json()
    assert len(found["calls"]) == 1 and found["next"] == "c1"
    refused = node.ask("/calls/search", OUTSIDE, "POST", json={"number": CALLER})
    assert rule(refused, 403) == "jurisdiction"


def test_a_receipt_and_the_audit_log() -> None:
    node = Node()
    node.region.records.receipts["c1"] = {"call": "c1", "signature": {}}
    assert node.ask("/calls/c1/receipt", AUDITOR).json() == {"call": "c1", "signature": {}}
    assert rule(node.ask("/calls/c1/receipt"), 403) == "role"
    answer = node.ask("/audit?first=2", AUDITOR)
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.text == "audit-exported\n"
    assert rule(node.ask("/audit"), 403) == "role"


def test_without_the_audit_log_nothing_is_read() -> None:
    node = Node()
    node.region.audit.away = True
    for path in ("/calls", "/calls/c1", "/recordings/r-c1", "/recordings/r-c1/audio"):
        answer = node.ask(path)
        assert rule(answer, 503) == "audit-unavailable" and CALLER not in answer.text
        assert answer.headers["retry-after"]


# --- recordings

WHOLE = bytes(range(256)) * 1024


def test_a_recording_whole_and_in_its_formats() -> None:
    node = Node()
    answer = node.ask("/recordings/r-c1/audio?format=flac&trim=true")
    assert answer.status_code == 200 and answer.content == WHOLE
    assert answer.headers["accept-ranges"] == "bytes"
    assert int(answer.headers["content-length"]) == len(WHOLE)
    assert node.region.recordings.opened == [("r-c1", "flac", True)]
    head = node.ask("/recordings/r-c1/audio", method="HEAD")
    assert int(head.headers["content-length"]) == len(WHOLE) and head.content == b""
    assert rule(node.ask("/recordings/r-c9/audio"), 404) == "not-kept"
    assert node.ask("/recordings/r-c1").json()["call"] == "c1"


def test_what_only_the_customer_can_play() -> None:
    node = Node()

    async def only_theirs(*asked: object) -> None:
        raise KeyMissing("it is encrypted to customer-1: only the customer can play it")

    node.region.recordings.open = only_theirs  # type: ignore[method-assign,assignment]
    answer = node.ask("/recordings/r-c1/audio")
    assert rule(answer, 409) == "key-missing" and "only the customer" in answer.text


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, len(WHOLE)),
        ("bytes=-100", len(WHOLE) - 100, len(WHOLE)),
        (f"bytes={PIECE - 1}-{2 * PIECE}", PIECE - 1, 2 * PIECE + 1),
        (f"bytes=5-{10**18}", 5, len(WHOLE)),
        (f"bytes=-{10**18}", 0, len(WHOLE)),
    ],
)
def test_a_range_of_its_octets(asked: str, start: int, end: int) -> None:
    answer = Node().ask("/recordings/r-c1/audio", headers={"range": asked})
    assert answer.status_code == 206 and answer.content == WHOLE[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WHOLE)}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-", "octets=0-1", "bytes=0-1,4-5", "x"])
def test_what_is_no_range_is_left_aside(asked: str) -> None:
    answer = Node().ask("/recordings/r-c1/audio", headers={"range": asked})
    assert answer.status_code == 200 and answer.content == WHOLE


@pytest.mark.parametrize("asked", [f"bytes={len(WHOLE)}-", "bytes=-0"])
def test_a_range_of_nothing(asked: str) -> None:
    answer = Node().ask("/recordings/r-c1/audio", headers={"range": asked})
    assert rule(answer, 416) == "range"
    assert answer.headers["content-range"] == f"bytes */{len(WHOLE)}"


@given(
    st.from_regex(r"bytes=[0-9]{0,21}-[0-9]{0,21}", fullmatch=True) | st.text(max_size=20),
    st.integers(0, 1000),
)
def test_whatever_is_asked_for_a_range_lies_within(asked: str, size: int) -> None:
    try:
        span = wanted(asked, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span[0] < span[1] <= size


def test_if_range_names_none_of_our_validators() -> None:
    headers = {"range": "bytes=0-0", "if-range": '"x"'}
    assert Node().ask("/recordings/r-c1/audio", headers=headers).status_code == 200


def test_so_many_recordings_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings_api, "MOST_DOWNLOADS", 0)
    assert rule(Node().ask("/recordings/r-c1/audio"), 503) == "downloads"


def test_so_many_are_opened_at_once_too() -> None:
    """To make FLAC of a long recording takes as much as to send it."""
    node, most = Node(), 0
    open_ = node.region.recordings.open

    async def slowly(*asked: Any) -> Any:
        nonlocal most
        most = max(most, node.access.downloads)
        await asyncio.sleep(0.05)
        return await open_(*asked)

    node.region.recordings.open = slowly  # type: ignore[method-assign]

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(node.app)
        headers = {"authorization": f"Bearer {REVIEWER}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
            path = "/v1/recordings/r-c1/audio"
            asked = (client.get(path, headers=headers) for _ in range(20))
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(all_at_once())) == [200] * 8 + [503] * 12
    assert most == 8 and node.access.downloads == 0


# --- grants


def test_a_scope_that_would_be_shown_as_something_else() -> None:
    wish = {"reason": "x", "until": (NOW + HOUR).isoformat()}
    for scope in ({"peer": "acme\x1b[2J"}, {"records": ["c1", "\u202e"]}):
        made = Node().ask("/grants", OUTSIDE, "POST", json={**wish, "scope": scope})
        assert rule(made, 403) == "scope"


def test_refused_from_outside_then_allowed_by_a_grant_and_refused_again() -> None:
    node = Node()
    path = "/recordings/r-c1/audio"
    assert rule(node.ask(path, OUTSIDE), 403) == "grant"
    until = (NOW + HOUR).isoformat()
    wish = {"reason": "ticket 7", "scope": {"records": ["c1"]}, "until": until}
    made = node.ask("/grants", OUTSIDE, "POST", json=wish)
    assert made.status_code == 201 and made.headers["location"] == "/v1/grants/g1"
    assert rule(node.ask(path, OUTSIDE), 403) == "grant"
    itself = staff_token(sub="jane", roles=["approver"])
    assert rule(node.ask("/grants/g1/approve", itself, "POST"), 403) == "four-eyes"
    assert rule(node.ask("/grants/g1/approve", REVIEWER, "POST"), 403) == "role"
    assert node.ask("/grants/g1/approve", APPROVER, "POST").json()["state"] == "approved"
    assert node.ask(path, OUTSIDE).content == WHOLE
    assert node.region.actions()[-1] == ("recording-played", "g1")
    assert rule(node.ask("/recordings/r-c2/audio", OUTSIDE), 403) == "grant"
    assert node.ask("/grants/g1/revoke", APPROVER, "POST").json()["state"] == "revoked"
    assert rule(node.ask(path, OUTSIDE), 403) == "grant"
    (kept,) = node.ask("/grants", OUTSIDE).json()["grants"]
    assert kept["scope"]["records"] == ["c1"] and kept["revoked_by"] == "aoife"
    assert node.ask("/grants/g1", APPROVER).json() == kept
    assert rule(node.ask("/grants/g2", APPROVER), 404) == "not-kept"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"scope": {}}, "scope"),
        ({"reason": " "}, "reason"),
        ({"until": (NOW + timedelta(days=4)).isoformat()}, "until"),
        ({"until": NOW.isoformat()}, "until"),
    ],
)
def test_a_grant_that_cannot_be_given(change: dict[str, Any], name: str) -> None:
    wish = {"reason": "x", "scope": {"peer": "acme"}, "until": (NOW + HOUR).isoformat()}
    assert rule(Node().ask("/grants", OUTSIDE, "POST", json=wish | change), 403) == name


# --- over a real connection


def served(node: Node, test: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def serve() -> None:
        server = HttpServer("127.0.0.1", port, node.app)
        await server.start()
        try:
            await test(f"http://127.0.0.1:{port}/v1")
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(serve(), 20))
    assert not node.bugs


@pytest.mark.parametrize("how", ["grant", "token"])
def test_a_download_is_cut_when_its_right_is_revoked(how: str) -> None:
    node = Node()
    node.region.recordings.audio["r-c1"] = bytes(64 << 20)  # more than any buffer holds
    asked = asyncio.run(
        node.region.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW)
    )
    asyncio.run(node.region.granting.approve(AOIFE, asked.id, NOW))

    async def revoke() -> None:
        if how == "token":
            node.access.tokens.revoked = {"t1"}
        else:
            await node.region.granting.revoke(AOIFE, asked.id, NOW)

    got = 0

    async def download(url: str) -> None:
        nonlocal got
        headers = {"authorization": f"Bearer {OUTSIDE}"}
        async with (
            httpx.AsyncClient(timeout=10) as client,
            client.stream("GET", f"{url}/recordings/r-c1/audio", headers=headers) as answer,
        ):
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                if not got:
                    await revoke()
                got += len(piece)

    async def test(url: str) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await download(url)
        assert 0 < got < 32 << 20
        assert node.access.downloads == 0

    served(node, test)
    counter = "staff_token_refused" if how == "token" else "refused"
    assert node.access.counters == {counter: 1}


def test_a_long_answer_has_time_and_a_stuck_one_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTION_S", 1.0)
    monkeypatch.setattr(http, "ANSWER_S", 1.5)
    node = Node()
    node.region.recordings.audio["r-c1"] = bytes(64 << 20)
    over = asyncio.Event()
    ends = iter((lambda: None, over.set))  # of what opens it, of what sends it

    @contextmanager
    def download() -> Iterator[None]:
        yield
        next(ends)()

    node.access.download = download  # type: ignore[method-assign]

    async def test(url: str) -> None:
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        idle, other = await asyncio.open_connection(host, int(port))
        reader, writer = await asyncio.open_connection(host, int(port))
        ask = (
            f"GET /v1/recordings/r-c1/audio HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {REVIEWER}"
        )
        begun = asyncio.get_running_loop().time()
        writer.write(f"{ask}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await idle.read() == b""  # who asks for nothing is gone after CONNECTION_S
        other.close()
        await over.wait()  # nothing is read: the answer is stuck
        assert 1.5 < asyncio.get_running_loop().time() - begun < 10
        writer.close()

    served(node, test)

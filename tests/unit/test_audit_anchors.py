"""Anchors: files and webhooks are told the latest checkpoint, until they took it, inside only."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay.config.reading import example
from relay.database import anchors as module
from relay.database.anchors import Anchors
from relay.errors import ConfigError
from relay.probe.certificates import Authority
from relay.residency.boundary import Boundary

INSIDE = Boundary([ip_network("127.0.0.0/8"), ip_network("::1/128")])
ELSEWHERE = Boundary([ip_network("192.0.2.0/24")])


def checkpoint(number: int) -> dict[str, Any]:
    return {"action": "checkpoint", "n": number}


def told(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_bytes().splitlines()]


class Webhook(ThreadingHTTPServer):
    """Keeps what it took; answers `status`, with a Location to itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.status = 204
        self.bodies: list[bytes] = []
        self.hosts: list[str] = []
        self.came = threading.Event()


class Request(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.hosts.append(self.headers["Host"])
        self.send_response(self.server.status)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.came.set()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(authority: Authority, *names: str) -> Iterator[Webhook]:
    pair = authority.issue("webhook", *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with Webhook() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_file_gets_each_checkpoint_once_also_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "worm.jsonl"
    for number in (5, 5, 9):
        assert Anchors([f"file:{path}"], tmp_path, INSIDE).tell(checkpoint(number)) == {}
    assert told(path) == [5, 9]


def test_a_webhook_is_told_at_the_address_that_was_admitted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(authority, "localhost") as server:
        url = f"https://localhost:{server.server_port}/anchor?secret=s"
        found = Anchors([url], tmp_path, INSIDE, str(authority.file))
        assert found.tell(checkpoint(5)) == {}
        assert server.bodies == [b'{"action":"checkpoint","n":5}']
        assert server.hosts == [f"localhost:{server.server_port}"]


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_any_answer_but_2xx_is_a_failure_and_no_redirect_is_followed(
    tmp_path: Path, status: int
) -> None:
    authority = Authority(tmp_path)
    with serving(authority, "localhost") as server:
        server.status = status
        url = f"https://localhost:{server.server_port}/anchor?secret=s"
        failed = Anchors([url], tmp_path, INSIDE, str(authority.file)).tell(checkpoint(5))
        assert failed == {f"https://localhost:{server.server_port}": f"localhost answered {status}"}
        assert len(server.bodies) == 1


def test_nothing_is_sent_outside_of_the_region(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(authority, "localhost") as server:
        url = f"https://localhost:{server.server_port}/"
        [problem] = (
            Anchors([url], tmp_path, ELSEWHERE, str(authority.file)).tell(checkpoint(5)).values()
        )
        assert problem.endswith("is outside the region (webhook)")
        assert server.bodies == []


def test_a_certificate_of_another_name_or_authority_gets_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with serving(authority, "other.example") as server:
        url = f"https://localhost:{server.server_port}/"
        for ca in (str(authority.file), None):
            [problem] = Anchors([url], tmp_path, INSIDE, ca).tell(checkpoint(5)).values()
            assert "certificate" in problem
        assert server.bodies == []


def test_an_anchor_that_cannot_be_reached_is_told_later_the_latest_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.02)
    path = tmp_path / "away" / "worm.jsonl"
    found = Anchors([f"file:{path}"], tmp_path, INSIDE)
    tried = threading.Event()
    tell = found.tell

    def watched(each: dict[str, Any]) -> dict[str, str]:
        failed = tell(each)
        tried.set()
        return failed

    monkeypatch.setattr(found, "tell", watched)
    for number in (5, 9):
        tried.clear()
        found.offer(checkpoint(number))
        assert tried.wait(10)
    path.parent.mkdir()
    for _ in range(3):  # one of them began before the directory was there
        tried.clear()
        assert tried.wait(10) or told(path) == [9]
        if path.exists():
            break
    found.close()
    assert told(path) == [9]
    assert found.counters["anchors_told"] == 1 and found.counters["anchors_failed"] >= 2


@pytest.mark.parametrize(
    "anchor", ["http://192.0.2.1/", "https://u:p@host/", "worm.jsonl", "file:"]
)
def test_an_anchor_that_cannot_be_meant_is_a_mistake(anchor: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["audit"] = {"anchors": [anchor]}

    with pytest.raises(ConfigError, match="neither file:PATH nor https://HOST"):
        example(change)

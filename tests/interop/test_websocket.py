"""`relay serve` with ws: and wss: listeners, and the library's own client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from relay.access_token import Signer, Wish
from relay.probe.certificates import Authority
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from tests.interop.region import DEADLINE_S, Party, Region, free_port, need, parties, region
from tests.unit.browsers import describe

SIP = Subprotocol("sip")
PAGE = "https://app.example.com"
OPTIONS = (
    "OPTIONS sip:relay.example SIP/2.0\r\n"
    "Via: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:alice@relay.example>;tag=a\r\nTo: <sip:relay.example>\r\n"
    "Call-ID: o1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n"
)


@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_a_page_speaks_sip_until_the_node_ends(tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path / "tls")
    everyone = parties()
    relay = everyone[0]
    port = free_port(relay.host)
    pair = authority.issue("relay", relay.host)
    sip = {
        "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
        "websocket": {"origins": [PAGE]},
    }
    trust = ssl.create_default_context(cafile=str(authority.file))
    uri = f"{transport}://{relay.host}:{port}/"

    async def speak(node: Region) -> None:
        options = {"ssl": trust} if transport == "wss" else {}
        with pytest.raises(InvalidStatus) as refused:
            await connect(uri, origin=Origin("https://evil.example"), subprotocols=[SIP], **options)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        async with (
            asyncio.timeout(DEADLINE_S),
            connect(uri, origin=Origin(PAGE), subprotocols=[SIP], **options) as page,  # type: ignore[arg-type]
        ):
            await page.send(OPTIONS)
            answer = parse(str(await page.recv()).encode())
            assert isinstance(answer, Response) and answer.status in (401, 403)
            ends = threading.Thread(target=node.process.stop)
            ends.start()
            await page.wait_closed()
            assert (page.close_code, page.close_reason) == (1001, "the relay is shutting down")
        ends.join()

    listen = (f"{transport}:{relay.host}:{port}",)
    with region(tmp_path, everyone=everyone, sip=sip, listen=listen) as node:
        asyncio.run(speak(node))
        assert node.process.find("stopped")[0]["sip"]["ws_refused_origin"] == 1


NGINX = """
daemon off; pid {tmp}/pid; error_log {tmp}/error.log;
events {{}}
http {{
    access_log off;
    server {{
        listen {proxy} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};
        location /voice {{
            proxy_pass http://{relay};
            proxy_bind {proxy.host};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""
HAPROXY = """
frontend voice
    bind {proxy} ssl crt {pem} alpn http/1.1
    mode http
    option forwardfor
    timeout client 120s
    default_backend relay
backend relay
    mode http
    timeout connect 5s
    timeout server 120s
    timeout tunnel 120s
    source {proxy.host}
    server relay1 {relay}
"""


@pytest.mark.parametrize(
    ("command", "text"), [(("nginx", "-c"), NGINX), (("haproxy", "-f"), HAPROXY)]
)
def test_a_tls_proxy_in_front_names_its_clients(
    tmp_path: Path, command: tuple[str, str], text: str
) -> None:
    """The configurations of docs/clients.md."""
    need(command[0])
    authority = Authority(tmp_path / "tls")
    everyone = parties()
    relay = Party(everyone[0].host, free_port(everyone[0].host))
    proxy, client = everyone[3], "127.9.9.9"
    pair = authority.issue("proxy", proxy.host)
    pem, file = tmp_path / "proxy.pem", tmp_path / "proxy.conf"
    pem.write_text(pair.certificate.read_text() + pair.key.read_text())
    file.write_text(text.format(tmp=tmp_path, pem=pem, proxy=proxy, relay=relay))
    trust = ssl.create_default_context(cafile=str(authority.file))

    async def speak() -> None:
        uri = f"wss://{proxy}/voice"
        origin = Origin(PAGE)
        async with (
            asyncio.timeout(DEADLINE_S),
            connect(
                uri, ssl=trust, origin=origin, subprotocols=[SIP], local_addr=(client, 0)
            ) as page,
        ):
            await page.send(OPTIONS)
            answer = parse(str(await page.recv()).encode())
            assert isinstance(answer, Response)
            assert ("received", client) in answer.via.params

    sip = {"websocket": {"origins": [PAGE], "proxies": [f"{proxy.host}/32"]}}
    with (
        region(tmp_path, everyone=everyone, sip=sip, listen=(f"ws:{relay}",)),
        subprocess.Popen([*command, str(file)]) as running,
    ):
        try:
            until_it_listens(proxy)
            asyncio.run(speak())
        finally:
            running.terminate()


def until_it_listens(party: Party) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection((party.host, party.port), 1.0).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


SECRET = "0123456789abcdef0123456789abcdef"
SIGNER = Signer("t1", "app", "k1", "HS256", SECRET)
ACCOUNT = f"""
[[account]]
name = "app"
keys = [{{ id = "k1", secret = "{SECRET}" }}]
[[route]]
from = "app"
number = "*"
to = "app"
"""


def fields(identity: str, method: str, uri: str, to: str, more: str = "") -> str:
    number = time.monotonic_ns()
    return (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/WS {identity}.invalid;branch=z9hG4bK{number}\r\nMax-Forwards: 69\r\n"
        f"From: <sip:{identity}@relay>;tag={identity}\r\nTo: <sip:{to}@relay>\r\n"
        f"Call-ID: {identity}-{method}\r\nCSeq: {number % 2**31} {method}\r\n"
        f"Contact: <sip:{identity}@{identity}.invalid;transport=ws>;reg-id=1;"
        f'+sip.instance="<urn:uuid:{identity}>"\r\n{more}'
    )


async def register(page: ClientConnection, identity: str) -> None:
    token = SIGNER.token(Wish(identity, "1h", True, True, None).claims(SIGNER, time.time()))
    more = f"Supported: outbound\r\nExpires: 600\r\nAuthorization: Bearer {token}\r\n\r\n"
    await page.send(fields(identity, "REGISTER", "sip:relay", identity, more))


async def heard(page: ClientConnection) -> Request | Response:
    return parse(str(await page.recv()).encode())


def test_a_call_waits_for_a_client_that_is_between_two_networks(tmp_path: Path) -> None:
    everyone = parties()
    relay = Party(everyone[0].host, free_port(everyone[0].host))

    def page(host: str) -> connect:
        return connect(f"ws://{relay}/", subprotocols=[SIP], local_addr=(host, 0))

    async def speak() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            page("127.9.9.1") as alice,
            page("127.9.9.2") as bob,
            page("127.9.9.3") as bob_again,
        ):
            for client, identity in ((alice, "alice"), (bob, "bob")):
                await register(client, identity)
                answer = await heard(client)
                assert isinstance(answer, Response) and answer.status == 200
            bob.transport.abort()
            offer = describe("aiortc").decode()
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(offer)}\r\n\r\n"
            await alice.send(fields("alice", "INVITE", "sip:bob@relay", "bob", more) + offer)
            trying = await heard(alice)
            assert isinstance(trying, Response) and trying.status == 100
            await register(bob_again, "bob")
            invite = await heard(bob_again)
            assert isinstance(invite, Request) and invite.method == "INVITE"
            registered = await heard(bob_again)
            assert isinstance(registered, Response) and registered.status == 200
            await bob_again.send(invite.response(486, to_tag="b").encode())
            busy = await heard(alice)
            assert isinstance(busy, Response) and busy.status == 486

    with region(tmp_path, everyone=everyone, listen=(f"ws:{relay}",), more=ACCOUNT) as node:
        asyncio.run(speak())
    counted = node.process.find("stopped")[0]["sip"]
    assert counted["ws_parked"] >= 1 and counted["ws_moved"] == 1

"""`relay serve` with ws: and wss: listeners, and the library's own client."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from relay.probe.certificates import Authority
from relay.sip.message import Response
from relay.sip.parser import parse
from tests.interop.region import DEADLINE_S, Region, free_port, parties, region

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

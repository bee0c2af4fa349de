"""Access tokens end to end: made by `relay token`, shown over a real WebSocket, revoked."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from relay.sip.message import Response
from relay.sip.parser import parse
from tests.interop.region import DEADLINE_S, Region, free_port, parties, region

SECRET = "0123456789abcdef0123456789abcdef"


def made(config: Path, *options: str) -> str:
    """As an operator makes it."""
    command = [sys.executable, "-m", "relay", "token", "-c", str(config), "--account", "app"]
    done = subprocess.run(
        [*command, "--identity", "alice", *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return done.stdout.strip()


async def register(page: ClientConnection, token: str, number: int) -> Response:
    await page.send(
        "REGISTER sip:relay.example SIP/2.0\r\n"
        f"Via: SIP/2.0/WS x.invalid;branch=z9hG4bK{number}\r\n"
        "From: <sip:alice@relay.example>;tag=a\r\nTo: <sip:alice@relay.example>\r\n"
        f"Call-ID: r1\r\nCSeq: {number} REGISTER\r\nMax-Forwards: 70\r\n"
        f"Authorization: Bearer {token}\r\nContact: <sip:p@x.invalid;transport=ws>\r\n\r\n"
    )
    answer = parse(str(await page.recv()).encode())
    assert isinstance(answer, Response)
    return answer


def test_a_token_is_made_taken_and_revoked(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.txt"
    revoked.write_text("# nobody yet\n")
    account = (
        f'[[account]]\nname = "app"\nrevoked = "{revoked}"\n'
        f'keys = [{{ id = "k1", secret = "{SECRET}" }}]'
    )
    everyone = parties()
    port = free_port(everyone[0].host)
    uri = f"ws://{everyone[0].host}:{port}/"

    async def speak(node: Region) -> None:
        config = tmp_path / "relay.toml"
        first, second = made(config, "--ttl", "5m"), made(config)
        async with (
            asyncio.timeout(4 * DEADLINE_S),
            connect(uri, subprotocols=[Subprotocol("sip")]) as page,
        ):
            assert (await register(page, first[:-6] + "AAAAAA", 1)).status == 401
            taken = await register(page, first, 2)
            assert taken.status == 200
            found = re.search(r";expires=(\d+)", taken.headers.get("Contact") or "")
            assert found is not None and 200 < int(found[1]) <= 300  # the token's, not the 600
            revoked.write_text(_id_of(first) + "\n")
            gone = await asyncio.to_thread(node.process.wait, "client_unregistered", DEADLINE_S)
            assert gone["why"] == "token revoked" and gone["identity"] == "a****"
            refused = await register(page, first, 3)
            assert refused.status == 401
            assert "has been revoked" in (refused.headers.get("Warning") or "")
            assert (await register(page, second, 4)).status == 200
        log = node.process.log.read_text()
        assert first not in log and second not in log and SECRET not in log

    listen = (f"ws:{everyone[0].host}:{port}",)
    with region(tmp_path, everyone=everyone, listen=listen, more=account) as node:
        asyncio.run(speak(node))
    counted = node.process.find("stopped")[0]["sip"]
    assert counted["token_tampered"] == counted["token_revoked"] == 1


def _id_of(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])

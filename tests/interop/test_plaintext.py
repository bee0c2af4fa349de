"""What a recorded call of a client leaves on the disk of a node: nothing of it is in clear.

Looked at while the call lasts, as a `kill -9` would leave it, and after the node has ended: the
log, the queue, the database with its write-ahead log, the spool, the store, the audit log, and
whatever else is there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.keys.ring import KeyRing
from relay.probe.demo_kept import pieces
from relay.probe.remote import Endpoint
from relay.recording.decryption import wav_of
from tests.interop.region import DEADLINE_S, need, need_pjsua2
from tests.interop.test_clients import OUTSIDE, speak
from tests.interop.voice_clients import NUMBERS, VoiceRegion, voice_region

OPERATORS = ("relay.toml", "ca", "keys")  # what was configured: routes have numbers
LOG = "relay.log"
WRITTEN = {"audit", "queue", "relay.db", LOG}


def disk(node: Path) -> dict[str, bytes]:
    """Every file of the node's as it is now, by its path below."""
    files = {str(path.relative_to(node)): path for path in node.rglob("*") if path.is_file()}
    return {
        name: logged(path) if name == LOG else path.read_bytes()
        for name, path in files.items()
        if Path(name).parts[0] not in OPERATORS
    }


def logged(path: Path) -> bytes:
    """Without what is printed for who starts it, where the configuration sends its numbers."""
    return b"\n".join(line for line in path.read_bytes().splitlines() if line.startswith(b"{"))


def holding(files: dict[str, bytes], *texts: str) -> list[str]:
    """The files in which one of these stands, as text or in hexadecimal."""
    wanted = [form for text in texts for form in (text.encode(), text.encode().hex().encode())]
    return [name for name, octets in files.items() if any(each in octets for each in wanted)]


def test_nothing_of_a_call_is_in_clear(
    tmp_path: Path, voices: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("espeak-ng")
    need_pjsua2()
    node, phones = tmp_path / "node", tmp_path / "phones"
    for directory in (phones, node, node / "tmp"):
        directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(node / "tmp"))
    disks: list[dict[str, bytes]] = []

    async def call(r: VoiceRegion) -> None:
        carrier = await Endpoint.start(r.phone("carrier", voices, phones))
        try:
            async with r.client("alice") as alice:
                call = await alice.call(OUTSIDE)
                await call.answered()
                await speak(call, carrier, voices)
                disks.append(disk(node))
                await call.hang_up()
                await carrier.wait("bye")
        finally:
            await carrier.stop()

    recorded = {"recording": '"record-from-answer-dual"'}
    with voice_region(node, recorded) as r:
        process, keys = r.region.process, r.region.keys
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        asyncio.run(asyncio.wait_for(call(r), 60))
        stored = Path(process.wait("recording_stored", DEADLINE_S)["path"])
    disks.append(disk(node))

    audio = pieces(wav_of(stored, KeyRing(keys)))
    assert len(audio) > 500  # both spoke
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    for files, place in zip(disks, ("spool", "recordings"), strict=True):
        assert {Path(name).parts[0] for name in files} >= {*WRITTEN, place}
        assert not holding(files, NUMBERS["alice"][1:], OUTSIDE[1:])
        kept = {name: octets for name, octets in files.items() if name != LOG}
        assert not holding(kept, "alice", r.region.carrier.host)
        assert [name for name, octets in files.items() if any(p in octets for p in audio)] == []
        assert [name for name, octets in files.items() if b"WAVE" in octets] == []

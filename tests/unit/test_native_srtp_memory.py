"""What of a key is left in the memory of the process: looked for from another one."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from relay import _native
from relay.sdp.description import SrtpKey
from tests.unit.srtp_rig import SUITE_NAMES, fresh_key

CHILD = """
import json, sys
from base64 import b64decode
from relay.call.ports import Side
from relay.sdp.description import SrtpKey, SrtpKeys
from tests.unit.media_rig import rig, until
def step(name):
    print(name, flush=True)
    sys.stdin.readline()
suite, *parts = json.loads(sys.stdin.readline())
receive, send = (SrtpKey(suite, b64decode(parts[i]), b64decode(parts[i + 1])) for i in (0, 2))
with rig() as r:
    r.call.update(Side.CALLER, r.caller.leg(srtp=SrtpKeys((receive,), send)))
    r.call.update(Side.CALLEE, r.callee.leg())
    r.callee.send(r.at_callee)
    r.caller.rtp.recv(4096)
    step("up")
    r.call.close()
    until(lambda: r.call._flows.closed)
    step("closed")
"""


def memory(process: int) -> bytes:
    """All that this process can write to."""
    found = []
    with Path(f"/proc/{process}/mem").open("rb", 0) as mem:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            first, last = (int(number, 16) for number in place.split("-"))
            if "rw" not in rights or last - first > 1 << 28:
                continue  # the largest are reservations, of a sanitizer
            try:
                mem.seek(first)
                found.append(mem.read(last - first))
            except (OSError, ValueError):
                continue
    return b"".join(found)


def session_keys(*keys: SrtpKey) -> set[bytes]:
    """Encryption and authentication keys; the latter are kept as the state of an HMAC only."""
    found = set()
    for key in keys:
        for encryption, _, _ in _native.srtp_session_keys(key.suite, key.key, key.salt):
            found.add(encryption)
    return found


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_the_session_keys_are_wiped_when_the_call_closes(suite: str) -> None:
    receive, send = fresh_key(suite), fresh_key(suite)
    parts = (receive.key, receive.salt, send.key, send.salt)
    told = json.dumps([suite, *(b64encode(part).decode() for part in parts)])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(told + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "up\n"
        secrets = session_keys(receive, send)
        held = memory(child.pid)
        assert all(secret in held for secret in secrets), "they are not found while in use"
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "closed\n"
        held = memory(child.pid)
        assert not any(secret in held for secret in secrets)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()

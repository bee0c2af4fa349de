"""The node of `test_firewall`, run as a program in a network namespace of its own.

Makes a second namespace as the world, loads the ruleset that is named, sends and has itself sent
three packets by each address, and prints as JSON what came and what the rules counted.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

OURS = ("192.0.2.1", "203.0.113.1", "2001:db8::1", "2001:db8:1::1")
THEIRS = ("192.0.2.9", "203.0.113.9", "2001:db8::9", "2001:db8:1::9")
SIP = 5060  # a port that the node listens on
TIMES = 3
QUIET_S = 0.3  # after which nothing more is on its way: the wire is in memory

# Sends to each of our addresses from its own of that network, then tells what came to it.
WORLD = f"""
import json, select, socket, sys
from collections import Counter
from time import monotonic
socks = {{}}
for host in {THEIRS!r}:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socks[host] = socket.socket(family, socket.SOCK_DGRAM)
    socks[host].bind((host, {SIP}))
for host, ours in zip({THEIRS!r}, {OURS!r}):
    for _ in range({TIMES}):
        socks[host].sendto(b"INVITE", (ours, {SIP}))
print("ready", flush=True)
sys.stdin.readline()
found = Counter()
while ready := select.select(list(socks.values()), (), (), {QUIET_S})[0]:
    for host, sock in socks.items():
        if sock in ready:
            sock.recv(100)
            found[host] += 1
print(json.dumps(found), flush=True)
"""


def shell(*lines: str) -> None:
    for line in lines:
        subprocess.run(line.split(), check=True, stdout=sys.stderr)


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, SIP))
    sock.setblocking(False)
    return sock


def addresses(device: str, hosts: tuple[str, ...], prefix: str = "") -> list[str]:
    bits = {False: "24", True: "48 nodad"}
    return [f"{prefix}ip address add {each}/{bits[':' in each]} dev {device}" for each in hosts]


def heard(socks: dict[str, socket.socket]) -> list[str]:
    """Who sent to us what came through."""
    found: Counter[str] = Counter()
    for sock in socks.values():
        while True:
            try:
                _, (host, *_) = sock.recvfrom(100)
            except BlockingIOError:
                break
            found[host] += 1
    assert all(times == TIMES for times in found.values()), found
    return sorted(found)


def send(socks: dict[str, socket.socket]) -> dict[str, str]:
    """Past everything but the kernel; of each address the kernel's word."""
    words: dict[str, str] = {}
    for (_, sock), to in zip(socks.items(), THEIRS, strict=True):
        for _ in range(TIMES):
            try:
                sock.sendto(b"audio", (to, SIP))
                words[to] = "sent"
            except OSError as error:
                words[to] = errno.errorcode[error.errno or 0]
    return words


def listed(*words: str) -> list[dict[str, dict[str, object]]]:
    done = subprocess.run(["nft", "--json", *words], check=True, capture_output=True)
    found: list[dict[str, dict[str, object]]] = json.loads(done.stdout)["nftables"]
    return found


def main(ruleset: str) -> None:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with ExitStack() as stack:
        asleep = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        stack.callback(asleep.wait)
        assert asleep.stdin is not None
        stack.callback(asleep.stdin.close)
        enter = f"nsenter --net=/proc/{asleep.pid}/ns/net "
        while os.readlink(f"/proc/{asleep.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            os.sched_yield()
        shell(
            "ip link set lo up",
            f"ip link add node type veth peer name world netns {asleep.pid}",
            *addresses("node", OURS),
            *addresses("world", THEIRS, enter),
            "ip link set node up",
            f"{enter}ip link set world up",
            f"nft --file {ruleset}",
        )
        socks = {host: bound(host) for host in OURS}
        world = subprocess.Popen(
            [*enter.split(), sys.executable, "-c", WORLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(world.wait)
        assert world.stdin is not None and world.stdout is not None
        assert world.stdout.readline() == "ready\n"
        words = send(socks)
        world.stdin.write("\n")
        world.stdin.close()
        received = json.loads(world.stdout.readline())
        counters = {
            each["counter"]["name"]: each["counter"]["packets"]
            for each in listed("list", "counters")
            if "counter" in each
        }
        tables = [each["table"]["name"] for each in listed("list", "tables") if "table" in each]
        print(
            json.dumps(
                {
                    "received": received,
                    "heard": heard(socks),
                    "sent": words,
                    "counters": counters,
                    "tables": tables,
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1])

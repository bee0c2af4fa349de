"""dnsmasq on loopback, with records of the test's own."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.interop.region import DEADLINE_S, Party


class DnsServer:
    """`records` are dnsmasq's options; `hosts` may change while it runs."""

    def __init__(self, own: Party, directory: Path, ttl_s: int) -> None:
        self.own = own
        self._hosts = directory / "hosts"
        self._hosts.write_text("")
        self._ttl_s = ttl_s
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *records: str) -> None:
        self.process = subprocess.Popen(
            [
                *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file"),
                *("--no-resolv", "--no-hosts", "--bind-interfaces", "--user=", "--group="),
                *(f"--port={self.own.port}", f"--listen-address={self.own.host}"),
                *(f"--addn-hosts={self._hosts}", f"--local-ttl={self._ttl_s}", "--local=/test/"),
                *(f"--{record}" for record in records),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def set_hosts(self, **addresses: str) -> None:
        """`carrier="127.0.0.1 ::1"` is carrier.test; returns when dnsmasq serves it."""
        lines = [
            f"{address} {name}.test"
            for name, found in addresses.items()
            for address in found.split()
        ]
        self._hosts.write_text("\n".join([*lines, ""]))
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        for name, found in addresses.items():
            for address in found.split():
                self._wait(f"{name}.test", "AAAA" if ":" in address else "A", address)

    def ask(self, name: str, kind: str) -> list[str] | None:
        """What it answers now; None when it does not."""
        query = dns.message.make_query(name, kind)
        try:
            answer = dns.query.udp(query, self.own.host, 0.5, self.own.port)
        except (dns.exception.DNSException, OSError):
            return None
        return [str(record) for rrset in answer.answer for record in rrset]

    def _wait(self, name: str, kind: str, expected: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while expected not in (self.ask(name, kind) or ()):
            assert self.process is not None and self.process.poll() is None, "dnsmasq ended"
            assert time.monotonic() < deadline, f"dnsmasq does not serve {name} {kind} {expected}"
            time.sleep(0.02)  # polls the server

    def wait_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.ask("ready.test", "A") is None:
            assert self.process is not None and self.process.poll() is None, "dnsmasq ended"
            assert time.monotonic() < deadline, "dnsmasq does not answer"
            time.sleep(0.02)  # polls the server

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(own: Party, directory: Path, *records: str, ttl_s: int = 60) -> Iterator[DnsServer]:
    """A server that answers when the block begins."""
    server = DnsServer(own, directory, ttl_s)
    server.start(*records)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()

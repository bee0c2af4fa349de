"""Checkpoints of the audit log are told to anchors: files, and webhooks inside the region.

An anchor keeps what it was told where the writer of the log cannot change it. A checkpoint
stands for all before it, so only the latest is told, again and again until it was taken.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from relay.errors import AnchorFailed, OutsideRegion
from relay.residency.boundary import Boundary, Use
from relay.residency.signing import canonical

TIMEOUT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 300.0
STATE = "anchored.json"
WEBHOOK_PORT = 443


class Anchors:
    """Those of one log; what each has taken is kept in its directory. `ca` is a file of
    authorities for webhooks, the system's by default."""

    def __init__(
        self, targets: Sequence[str], directory: Path, boundary: Boundary, ca: str | None = None
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._targets = tuple(targets)
        self._state = directory / STATE
        self._boundary = boundary
        self._ca = ca
        self._taken = self._read()
        self._latest: dict[str, Any] | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._problems: dict[str, str] = {}
        self._log = structlog.get_logger()

    def tell(self, checkpoint: dict[str, Any]) -> dict[str, str]:
        """Tell those that have not taken it, blocking; what failed, by the anchor's name."""
        failed = {}
        for target in self._targets:
            if self._taken.get(target, 0) >= checkpoint["n"]:
                continue
            try:
                self._tell(target, checkpoint)
            except AnchorFailed as error:
                failed[named(target)] = str(error)
            else:
                self._taken[target] = checkpoint["n"]
                self._write()
        return failed

    def offer(self, checkpoint: dict[str, Any]) -> None:
        """Tell it from a thread of its own, until it was taken or a later one is offered."""
        if not self._targets:
            return
        with self._wake:
            self._latest = checkpoint
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="anchors", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """What is being told is told to its end; the rest at the next start."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        retry_s, told = FIRST_RETRY_S, None
        while True:
            with self._wake:
                waits = retry_s if told is not None and self._problems else None
                if self._latest is told and not self._closing:
                    self._wake.wait(waits)
                if self._latest is None or (self._closing and self._latest is told):
                    return
                told = self._latest
            self._note(self.tell(told))
            retry_s = min(2 * retry_s, LAST_RETRY_S) if self._problems else FIRST_RETRY_S

    def _note(self, failed: dict[str, str]) -> None:
        self.counters["anchors_failed"] += len(failed)
        for name, problem in failed.items():
            if self._problems.get(name) != problem:
                self._log.error("anchor_failed", anchor=name, problem=problem)
        for name in self._problems.keys() - failed.keys():
            self._log.info("anchor_told", anchor=name)
        self._problems = failed

    def _tell(self, target: str, checkpoint: dict[str, Any]) -> None:
        """Raises AnchorFailed."""
        line = canonical(checkpoint)
        if target.startswith("file:"):
            _append(Path(target.removeprefix("file:")), line + b"\n")
        else:
            _post(target, line, self._boundary, self._ca)
        self.counters["anchors_told"] += 1

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._state.read_bytes())
            return {str(target): int(number) for target, number in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # all are told again, which harms nothing

    def _write(self) -> None:
        fresh = self._state.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        with suppress(OSError):
            fresh.write_bytes(canonical(self._taken))
            os.replace(fresh, self._state)


def named(target: str) -> str:
    """An anchor without what may be secret in its URL."""
    return target if target.startswith("file:") else f"https://{urlsplit(target).netloc}"


def _append(path: Path, line: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, line) != len(line):
                raise OSError(None, "took a part only")
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise AnchorFailed(f"{path}: {error.strerror}") from None


def _post(url: str, body: bytes, boundary: Boundary, ca: str | None) -> None:
    """To the addresses that the boundary admits, one after the other until one answers; redirects
    are not followed, and the environment's proxies not used. Raises AnchorFailed."""
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or WEBHOOK_PORT
    problem = "has no address"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        for address in addresses:
            boundary.admit(Use.WEBHOOK, address)
        trust = ssl.create_default_context(cafile=ca)
        with httpx.Client(verify=trust, trust_env=False, timeout=TIMEOUT_S) as client:
            for address in addresses:
                request = client.build_request(
                    "POST",
                    httpx.URL(url).copy_with(host=address),
                    content=body,
                    headers={"Host": parts.netloc, "Content-Type": "application/json"},
                    extensions={"sni_hostname": host},
                )
                try:
                    status = _status(client, request)
                except httpx.ConnectError as error:
                    problem = str(error)
                    continue
                if 200 <= status < 300:
                    return
                raise AnchorFailed(f"{host} answered {status}")
    except socket.gaierror as error:
        problem = str(error.strerror)
    except OutsideRegion as error:
        problem = str(error)
    except (httpx.HTTPError, OSError) as error:
        problem = str(error) or type(error).__name__
    raise AnchorFailed(f"{host}: {problem}")


def _status(client: httpx.Client, request: httpx.Request) -> int:
    """What it answers; its body is not read."""
    answer = client.send(request, stream=True)
    answer.close()
    return answer.status_code

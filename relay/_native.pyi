"""Types of the compiled engine (native/_native.pyx). A test compares both."""

from collections.abc import Iterable, Sequence
from typing import Any

DROP_NAMES: tuple[str, ...]

class TapRing:
    def __init__(self, capacity: int = ...) -> None: ...
    @property
    def pushed(self) -> int: ...

class CallFlows:
    families: tuple[int, int]
    def update(
        self,
        side: int,
        host: str | None,
        port: int,
        rtcp_port: int,
        payload_types: Iterable[int],
        telephone_event: int = -1,
        clock_hz: int = 8000,
        may_send: bool = True,
        may_receive: bool = True,
        symmetric: bool = False,
    ) -> None: ...
    def record(self, on: bool, tap: int) -> None: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def figures(self, side: int) -> dict[str, Any]: ...

class Worker:
    tap: TapRing | None
    def __init__(
        self,
        wake_fd: int,
        idle_timeout_s: float = 60.0,
        latch_networks: Sequence[tuple[bytes, int]] = (),
        tap: TapRing | None = None,
        nap_us: int = 1000,
        nap_from: int = 2,
    ) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def open(
        self,
        number: int,
        caller_host: str,
        caller_port: int,
        callee_host: str,
        callee_port: int,
    ) -> CallFlows: ...
    def events(self) -> list[tuple[int, int, int, int, int, tuple[str, int] | None]]: ...
    def counters(self) -> dict[str, int]: ...

def view(data: bytes) -> str | tuple[Any, ...]: ...

class Stats:
    def feed(
        self,
        ssrc: int,
        sequence: int,
        timestamp: int,
        octets: int,
        now_ns: int,
        clock_hz: int = 8000,
        timed: bool = True,
    ) -> None: ...
    def figures(self) -> tuple[int, int, int, int, int, int, int, float, int]: ...

class Dtmf:
    def feed(
        self, ssrc: int, timestamp: int, payload: bytes, now_ns: int
    ) -> list[tuple[int, int]]: ...
    def on_timer(self, now_ns: int) -> list[tuple[int, int]]: ...

"""Types of the compiled engine (native/_native.pyx). A test compares both."""

from collections.abc import Iterable, Sequence
from typing import Any

from typing_extensions import Buffer

HAS_OPUS: bool
DROP_NAMES: tuple[str, ...]

class TapRing:
    """One worker's ring of packets for the recorder; `capacity` in octets."""

    def __init__(self, capacity: int = 8388608) -> None: ...
    def push(self, tap: int, side: int, now_ns: int, packet: Buffer) -> bool: ...
    @property
    def capacity(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def used(self) -> int: ...

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
        payload_map: Iterable[tuple[int, int]] = (),
        srtp_receive: Sequence[tuple[str, bytes, bytes, bytes]] = (),
        srtp_send: tuple[str, bytes, bytes, bytes] | None = None,
        ufrag: str = "",
        coding: tuple[str, int, int, int, int, int, bool] | None = None,
    ) -> None: ...
    def select(self, side: int, host: str | None, port: int) -> None: ...
    def secure(
        self,
        side: int,
        srtp_receive: Sequence[tuple[str, bytes, bytes, bytes]],
        srtp_send: tuple[str, bytes, bytes, bytes] | None,
    ) -> None: ...
    def send(self, side: int, data: bytes, host: str, port: int) -> bool: ...
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
        report_s: float = 5.0,
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
    def packets(self, limit: int = 64) -> list[tuple[int, int, bytes, tuple[str, int]]]: ...
    def counters(self) -> dict[str, int]: ...

def view(data: bytes) -> str | tuple[Any, ...]: ...
def stun_wanted(data: bytes, ufrags: Sequence[bytes]) -> str: ...

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

class Playout:
    def __init__(self, coding: tuple[str, int, int, int, int, int, bool]) -> None: ...
    def put(
        self,
        ssrc: int,
        sequence: int,
        timestamp: int,
        payload: bytes,
        now_ns: int,
        is_noise: bool = False,
    ) -> bool: ...
    def frame(self, now_ns: int) -> bytes | None: ...
    @property
    def waiting_ms(self) -> tuple[int, int]: ...
    @property
    def figures(self) -> tuple[int, int, int, int]: ...

class DropBursts:
    def feed(self, reason: str, now_ns: int) -> bool: ...

def srtp_session_keys(
    suite: str, key: bytes, salt: bytes
) -> tuple[tuple[bytes, bytes, bytes], tuple[bytes, bytes, bytes]]: ...

class Srtp:
    def __init__(
        self,
        suite: str,
        key: bytes,
        salt: bytes,
        sends: bool,
        mki: bytes = b"",
        session: tuple[bytes, bytes, bytes] | None = None,
        srtcp_index: int = 0,
    ) -> None: ...
    def open(self, packet: bytes, now_ns: int = 0) -> bytes | str: ...
    def close(self, packet: bytes, now_ns: int = 0) -> bytes | str: ...
    def open_rtcp(self, packet: bytes, now_ns: int = 0) -> bytes | str: ...
    def close_rtcp(self, packet: bytes) -> bytes | str: ...

class Totals:
    """The counts of a recording that ended; pairs are (caller, callee)."""

    @property
    def recorded(self) -> tuple[int, int]: ...
    @property
    def late(self) -> tuple[int, int]: ...
    @property
    def duplicate(self) -> tuple[int, int]: ...
    @property
    def other(self) -> tuple[int, int]: ...
    @property
    def restarts(self) -> tuple[int, int]: ...
    @property
    def jumps(self) -> tuple[int, int]: ...
    @property
    def gaps(self) -> tuple[int, int]: ...
    @property
    def gap_ticks(self) -> tuple[int, int]: ...
    @property
    def dropped(self) -> int: ...

class Block:
    """Recorded audio of one tap, and the gaps (start, ticks, channel) that ended in it."""

    @property
    def tap(self) -> int: ...
    @property
    def first_tick(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def gaps(self) -> tuple[tuple[int, int, int], ...]: ...
    @property
    def totals(self) -> Totals | None: ...

class TapReader:
    """Lays the packets of all rings onto timelines. `reorder_ms` 0 to 500."""

    def __init__(self, rings: list[TapRing], reorder_ms: int = 400) -> None: ...
    def start(
        self,
        tap: int,
        companding: int,
        began_ns: int,
        dual: bool,
        opus_types: Iterable[int] = (),
    ) -> None: ...
    def stop(self, tap: int, ended_ns: int = 0) -> None: ...
    def drain(self, now_ns: int) -> list[Block]: ...
    @property
    def stray(self) -> int: ...
    @property
    def behind(self) -> bool: ...
    @property
    def open(self) -> int: ...

def g711_tables() -> tuple[tuple[list[int], bytes, bytes], tuple[list[int], bytes, bytes]]: ...

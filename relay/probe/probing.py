"""`relay probe`: one synthetic call through a running region, measured at both ends."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from relay.errors import RelayError
from relay.probe.ends import TAIL_S, End, Refusal, Sip, SipEnd, WebRtc, end_of
from relay.probe.marks import write_marks
from relay.probe.quality import Direction, Report

CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A probe: who calls, who answers (None: somebody else does), what and how long."""

    number: str
    caller: WebRtc | Sip
    callee: WebRtc | Sip | None = None
    seconds: int = 8
    timeout_s: float = 60.0


def probe(plan: Plan) -> Report:
    """Hold the call and measure it; bounded by the plan's time-out, whatever happens.

    Raises ImportError when an end's extra is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="relay-probe-") as directory:
        return asyncio.run(_Probe(plan, Path(directory)).run())


class _Probe:
    def __init__(self, plan: Plan, scratch: Path) -> None:
        self._plan = plan
        self._report = Report(plan.number)
        self._step = "start"
        marks = scratch / "marks.wav"
        write_marks(marks, plan.seconds)
        self._caller: End = end_of(plan.caller, marks, scratch, "caller")
        self._callee: End | None = None
        if plan.callee is not None:
            self._callee = end_of(plan.callee, marks, scratch, "callee")

    @property
    def _ends(self) -> list[End]:
        return [self._caller, *([self._callee] if self._callee is not None else [])]

    async def run(self) -> Report:
        try:
            async with asyncio.timeout(self._plan.timeout_s):
                await self._hold()
        except TimeoutError:
            self._report.failure = f"{self._step}: not done in {self._plan.timeout_s:g} s"
        except (RelayError, Refusal, OSError) as error:
            self._report.failure = f"{self._step}: {error}"
        finally:
            await self._close()
        if not self._report.failure:
            self._count_marks()
        return self._report

    async def _hold(self) -> None:
        for end, name in zip(self._ends, ("caller", "callee"), strict=False):
            self._step = f"the {name} signs in"
            await end.open()
        self._step = f"calling {self._plan.number}"
        taking = asyncio.create_task(self._callee.take()) if self._callee else None
        try:
            dialled = await self._caller.call(self._plan.number)
            self._report.post_dial_ms = dialled.post_dial_ms
            self._report.setup_ms = dialled.setup_ms
            if taking is not None:
                self._step = "the callee answers"
                await taking
        finally:
            if taking is not None:
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)
        self._step = "both speak"
        await asyncio.gather(*(end.said() for end in self._ends))
        await asyncio.sleep(TAIL_S)
        self._step = "the figures are read"
        self._report.directions = await self._measure()
        self._step = "hanging up"
        await self._caller.hang_up()
        if self._callee is not None:
            await self._callee.hang_up()

    async def _measure(self) -> list[Direction]:
        sent = self._plan.seconds
        if self._callee is None:
            return [await self._caller.heard("caller hears", None, 0)]
        return [
            await self._caller.heard("caller hears callee", self._callee.said_at, sent),
            await self._callee.heard("callee hears caller", self._caller.said_at, sent),
        ]

    def _count_marks(self) -> None:
        """A phone's recording is complete only after the call."""
        for at, end in enumerate(self._ends):
            if isinstance(end, SipEnd):
                try:
                    heard = end.marks_heard()
                except (OSError, EOFError) as error:
                    self._report.failure = f"the recording cannot be read: {error}"
                    return
                measured = self._report.directions[at]
                self._report.directions[at] = replace(measured, marks=heard)

    async def _close(self) -> None:
        for end in self._ends:
            try:
                await asyncio.wait_for(end.close(), CLOSE_TIMEOUT_S)
            except (TimeoutError, RelayError, OSError):
                pass  # what was measured counts

"""What a probe measured, and whether that is good enough."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from relay.rtp.stats import mos


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call must not be worse than."""

    setup_ms: float = 3000.0
    loss_percent: float = 1.0
    jitter_ms: float = 30.0
    delay_ms: float = 150.0  # ITU-T G.114: what nobody minds
    mos: float = 4.0


@dataclass(frozen=True, slots=True)
class Direction:
    """What arrived at one end. `delay_ms` is None where it could not be measured."""

    name: str
    codec: str
    packets: int
    lost: int
    jitter_ms: float
    delay_ms: float | None
    round_trip_ms: float | None
    marks: int
    marks_sent: int

    @property
    def loss_percent(self) -> float:
        expected = self.packets + self.lost
        return 100.0 * self.lost / expected if expected else 100.0

    @property
    def mos(self) -> float:
        """ITU-T G.107 from loss, jitter and the measured delay; 1.0 when nothing came."""
        if not self.packets:
            return 1.0
        network_ms = self.delay_ms or 0.0
        return mos(self.lost, self.packets + self.lost, self.jitter_ms, network_ms)

    @property
    def audible(self) -> bool:
        """Whether what was said was heard: at least half of the marks."""
        return 2 * self.marks >= self.marks_sent


@dataclass(slots=True)
class Report:
    """One probe. `failure` is set when there was no call to measure."""

    called: str
    post_dial_ms: float | None = None
    setup_ms: float | None = None
    directions: list[Direction] = field(default_factory=list)
    failure: str = ""

    def findings(self, limits: Limits) -> list[str]:
        """Everything that is worse than it may be, in words; none: all is well."""
        if self.failure:
            return [self.failure]
        found = []
        if self.setup_ms is None or self.setup_ms > limits.setup_ms:
            found.append(f"set-up took {_ms(self.setup_ms)}, more than {limits.setup_ms:.0f} ms")
        for each in self.directions:
            found += [f"{each.name}: {text}" for text in _faults(each, limits)]
        return found

    def as_dict(self, limits: Limits) -> dict[str, Any]:
        """For --json."""
        findings = self.findings(limits)
        return {
            "ok": not findings,
            "findings": findings,
            "called": self.called,
            "post_dial_ms": _rounded(self.post_dial_ms),
            "setup_ms": _rounded(self.setup_ms),
            "limits": asdict(limits),
            "directions": [
                {
                    "name": each.name,
                    "codec": each.codec,
                    "packets": each.packets,
                    "lost": each.lost,
                    "loss_percent": round(each.loss_percent, 3),
                    "jitter_ms": round(each.jitter_ms, 2),
                    "delay_ms": _rounded(each.delay_ms),
                    "round_trip_ms": _rounded(each.round_trip_ms),
                    "mos": round(each.mos, 2),
                    "marks": each.marks,
                    "marks_sent": each.marks_sent,
                }
                for each in self.directions
            ],
        }


def _faults(direction: Direction, limits: Limits) -> list[str]:
    if not direction.packets:
        return ["nothing was received"]
    found = []
    if not direction.audible:
        found.append(f"{direction.marks} of {direction.marks_sent} marks were heard")
    if direction.loss_percent > limits.loss_percent:
        found.append(f"loss {direction.loss_percent:.2f} %, more than {limits.loss_percent:g} %")
    if direction.jitter_ms > limits.jitter_ms:
        found.append(f"jitter {direction.jitter_ms:.1f} ms, more than {limits.jitter_ms:g} ms")
    if direction.delay_ms is not None and direction.delay_ms > limits.delay_ms:
        found.append(f"delay {direction.delay_ms:.0f} ms, more than {limits.delay_ms:g} ms")
    if direction.mos < limits.mos:
        found.append(f"MOS {direction.mos:.2f}, less than {limits.mos:g}")
    return found


def middle(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return statistics.median(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _ms(value: float | None) -> str:
    return "too long" if value is None else f"{value:.0f} ms"

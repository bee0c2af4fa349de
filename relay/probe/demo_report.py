"""What the demonstration shows at its end, and whether all of it held."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from relay.probe.audio import Samples, read_recording, similarity, waveform_png

if TYPE_CHECKING:
    from relay.probe.demo import Evidence

SAME = 0.8
"""Similarity from which two pieces of audio are the same speech (G.711 both)."""
DIFFERENT = 0.5
OTHER = {"caller": "callee", "callee": "caller"}
TIMELINE = (
    ("call_started", "INVITE"),
    ("call_ringing", "ringing"),
    ("call_answered", "answer"),
    ("call_ended", "bye"),
)


class Check(NamedTuple):
    """One claim and whether it held."""

    held: bool
    text: str


def show(console: Console, evidence: Evidence, checks: Sequence[Check]) -> bool:
    """Print everything; True when every check held."""
    console.print()
    console.print(timeline(evidence))
    console.print(streams(evidence))
    if evidence.recording is not None:
        console.print(f"Recording  {evidence.recording}", soft_wrap=True)
        console.print(f"Ledger     {evidence.recording.with_suffix('.json')}", soft_wrap=True)
        console.print(f"Picture    {picture(evidence)}\n", soft_wrap=True)
    for check in checks:
        console.print(f"[green]✓[/green] {check.text}" if check.held else f"[red]✗ {check.text}")
    held = all(check.held for check in checks)
    console.print("\n[bold green]All of it held." if held else "\n[bold red]Not all of it held.")
    return held


def timeline(evidence: Evidence) -> Table:
    """The call as the relay logged it."""
    table = Table(title="The call, as the relay saw it", title_justify="left")
    table.add_column("event")
    table.add_column("at", justify="right")
    table.add_column("after", justify="right")
    began: datetime | None = None
    for event, label in TIMELINE:
        if not (line := evidence.line(event)):
            continue
        at = _time(line)
        began = began or at
        table.add_row(label, f"{at:%H:%M:%S.%f}"[:-3], f"{(at - began).total_seconds():.3f} s")
        if event == "call_answered":
            for key in (line for line in evidence.log if line.get("event") == "dtmf"):
                after = (_time(key) - began).total_seconds()
                shown = f"{_time(key):%H:%M:%S.%f}"[:-3]
                table.add_row(f"key {key.get('key')}", shown, f"{after:.3f} s")
    return table


def _time(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(str(line["timestamp"]))


def streams(evidence: Evidence) -> Table:
    """Both directions, measured by the relay on what arrived."""
    table = Table(title="Audio, as it arrived at the relay", title_justify="left")
    for column in ("from", "packets", "relayed", "lost", "jitter", "largest gap", "MOS"):
        table.add_column(column, justify="left" if column == "from" else "right")
    ended = evidence.line("call_ended")
    for side, label in (("caller", "caller (PBX)"), ("callee", "callee (carrier)")):
        figures = ended.get(side, {})
        mos = figures.get("mos")
        table.add_row(
            label,
            str(figures.get("packets", "-")),
            str(figures.get("relayed", "-")),
            str(figures.get("lost", "-")),
            f"{figures.get('jitter_ms', 0):.2f} ms",
            f"{figures.get('largest_gap_ms', 0):.0f} ms",
            f"{mos:.2f}" if mos is not None else "-",
        )
    return table


def picture(evidence: Evidence) -> Path:
    """The waveform of both channels, beside the recording."""
    assert evidence.recording is not None
    png = evidence.recording.with_suffix(".png")
    audio = read_recording(evidence.recording, evidence.region_keys)
    waveform_png(audio, png, evidence.recording.stem, ("caller (left)", "callee (right)"))
    return png


def judge(evidence: Evidence) -> Iterator[Check]:
    """Every claim about the call and its recording."""
    for event, label in TIMELINE:
        yield Check(bool(evidence.line(event)), f"{label} was logged")
    keys = "".join(str(line["key"]) for line in evidence.log if line.get("event") == "dtmf")
    yield Check(keys == evidence.keys, f"keys seen by the relay: {keys} (sent {evidence.keys})")
    heard = "".join(e["key"] for e in evidence.events["callee"] if e["event"] == "dtmf")
    yield Check(heard == evidence.keys, f"keys seen by the carrier: {heard}")
    if evidence.secure:
        suites = [evidence.line("call_answered").get(f"{side}_srtp") for side in OTHER]
        text = f"the PBX's audio is encrypted ({suites[0] or 'no'}), the carrier's is not"
        yield Check(bool(suites[0]) and not suites[1], text)
    ended = evidence.line("call_ended")
    for side in OTHER:
        figures = ended.get(side, {})
        good = figures.get("packets", 0) > 0 and figures.get("lost") == 0
        yield Check(good, f"no packet from the {side} was lost")
    for side, other in OTHER.items():
        yield same(f"the {side} heard the {other}", evidence.heard[side], evidence.said[other])
    if evidence.recording is None:
        yield Check(False, "there is a recording")
        return
    samples = read_recording(evidence.recording, evidence.region_keys).samples
    yield Check(len(samples) == len(OTHER), "the recording has two channels")
    channels = dict(zip(OTHER, samples, strict=False))
    for side, channel in channels.items():
        yield same(f"the recording has the {side} on its side", channel, evidence.said[side])
        crossed = similarity(channel, evidence.said[OTHER[side]])
        yield Check(crossed < DIFFERENT, f"… and not the {OTHER[side]} (similarity {crossed:.2f})")
    ledger = json.loads(evidence.recording.with_suffix(".json").read_bytes())
    gaps = ", ".join(f"{side} {ledger[side]['recorded']} packets" for side in OTHER)
    yield Check(bool(ledger["complete"]), f"the ledger says that it is complete ({gaps})")


def same(text: str, heard: Samples | Path, source: Path) -> Check:
    if isinstance(heard, Path) and not heard.exists():
        return Check(False, f"{text}: nothing was recorded")
    value = similarity(heard, source)
    return Check(value >= SAME, f"{text} (similarity {value:.2f})")

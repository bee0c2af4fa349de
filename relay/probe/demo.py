"""`relay demo`: a call between a PBX and a carrier through a region, then the proof.

Both are pjsua2 processes, the relay is `relay serve` with the example configuration. The
steps are here; `demo_setup` prepares the configuration, `demo_report` shows and judges.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from relay.errors import RelayError
from relay.probe import demo_kept, demo_report, demo_setup
from relay.probe.audio import speak
from relay.probe.auditor import Taken, take
from relay.probe.certificates import Pair
from relay.probe.outward import OUTSIDE, Answer, ask
from relay.probe.relay_process import Line, RelayProcess
from relay.probe.remote import Endpoint, Event, Setup
from relay.probe.staff import Readings, read, verdicts

CALLED = "+35315550199"
CALLER = "+35315550100"
KEYS = "159#"
CALLER_SAYS = (
    "Good morning, this is the office in Dublin. I would like to confirm the delivery for "
    "Thursday. Can you hear me clearly through the relay?"
)
CALLEE_SAYS = (
    "Hello Dublin, you are loud and clear. Thursday is fine. Twenty four boxes will leave "
    "the warehouse at nine. Press a few keys when you are done, please."
)
SPEECH_DEADLINE_S = 60.0
START_DEADLINE_S = 30.0


@dataclass(slots=True)
class Evidence:
    """All that was seen of the call: by the endpoints, by the relay, on the disk."""

    keys: str = KEYS
    secure: bool = False
    said: dict[str, Path] = field(default_factory=dict)
    heard: dict[str, Path] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)
    recording: Path | None = None
    outward: Answer | None = None
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    readings: Readings | None = None
    taken: Taken | None = None
    region_keys: Path = Path("var/keys")

    def line(self, event: str) -> Line:
        """The first log line of this event, empty when there is none."""
        return next((line for line in self.log if line.get("event") == event), {})


class Steps:
    """The progress display: one line a step, the running one with a spinner."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task: Any = None

    def next(self, text: str) -> None:
        self.done()
        self._task = self.progress.add_task(text, total=1)

    def done(self) -> None:
        if self._task is not None:
            self.progress.update(self._task, completed=1)


def run(example: Path | None = None, output: Path = Path("var"), secure: bool = False) -> int:
    """Hold the demonstration; returns the exit code, 0 only when every check held.

    With `secure` the PBX speaks TLS and SRTP, the carrier neither.
    """
    console = Console()
    console.print("[bold]A call through the region, from a PBX to a carrier and back[/bold]")
    console.print("The PBX speaks TLS and SRTP, the carrier neither\n" if secure else "")
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as directory:
        scratch = Path(directory)
        evidence = Evidence(secure=secure)
        try:
            setup = demo_setup.prepare(example or demo_setup.EXAMPLE, output, scratch, secure)
            evidence.region_keys = setup.keys
            steps = Steps(console)
            with steps.progress:
                asyncio.run(_hold(setup, scratch, evidence, steps))
                steps.done()
        except RelayError as error:
            console.print(f"\n[red]✗ The demonstration stopped:[/red] {error}", markup=True)
            return 1
        checks = [*demo_report.judge(evidence), *demo_kept.judge(evidence)]
        return 0 if demo_report.show(console, evidence, checks) else 1


async def _hold(setup: demo_setup.Region, scratch: Path, evidence: Evidence, steps: Steps) -> None:
    steps.next("two voices are made (espeak-ng)")
    for side, text, voice in (
        ("caller", CALLER_SAYS, "en-gb"),
        ("callee", CALLEE_SAYS, "en-us+f3"),
    ):
        evidence.said[side] = scratch / f"{side}-said.wav"
        evidence.heard[side] = scratch / f"{side}-heard.wav"
        await asyncio.to_thread(speak, text, voice, evidence.said[side])
    steps.next(f"the relay starts ({setup.listen})")
    relay = RelayProcess(setup.config, scratch / "relay.log")
    endpoints: dict[str, Endpoint] = {}
    try:
        await asyncio.to_thread(relay.wait, "serving", START_DEADLINE_S)
        steps.next("the PBX and the carrier start")
        for name, user, address, ring_s in (
            ("caller", CALLER, setup.pbx, 0.0),
            ("callee", CALLED, setup.carrier, 1.0),
        ):
            plan = _endpoint(name, user, address, ring_s, evidence)
            if setup.pbx_pair is not None and name == "caller":
                plan = _secure(plan, setup.pbx_pair, setup.authority)
            endpoints[name] = await Endpoint.start(plan)
        await _call(setup, relay, endpoints["caller"], endpoints["callee"], steps)
        saved = await asyncio.to_thread(relay.wait, "recording_stored")
        evidence.recording = Path(saved["path"])
        steps.next("staff of the region and of elsewhere want to hear it")
        evidence.readings = await asyncio.to_thread(read, setup.office, saved["call"])
        steps.next("a call wants its audio sent out of the region")
        began = datetime.now(UTC)
        evidence.outward = await asyncio.to_thread(ask, setup.udp, setup.carrier[0], CALLER)
        evidence.verdicts = await asyncio.to_thread(verdicts, setup.office, OUTSIDE, began)
        steps.next("an auditor takes the receipt and the audit log away")
        evidence.taken = await asyncio.to_thread(take, setup.office, saved["call"])
    finally:
        for endpoint in endpoints.values():
            await endpoint.stop()
        await asyncio.to_thread(relay.stop)
        evidence.log = relay.lines()
        evidence.events = {name: endpoint.events for name, endpoint in endpoints.items()}


def _endpoint(
    name: str, user: str, address: tuple[str, int], ring_s: float, evidence: Evidence
) -> Setup:
    host, port = address
    return Setup(
        name,
        host,
        port,
        user=user,
        play=evidence.said[name],
        record=evidence.heard[name],
        ring_s=ring_s,
    )


def _secure(plan: Setup, pair: Pair, authority: Path | None) -> Setup:
    return replace(
        plan,
        transport="tls",
        certificate=pair.certificate,
        key=pair.key,
        ca=authority,
        srtp="required",
    )


async def _call(
    setup: demo_setup.Region,
    relay: RelayProcess,
    caller: Endpoint,
    callee: Endpoint,
    steps: Steps,
) -> None:
    steps.next(f"the PBX calls {CALLED}")
    suffix = f";transport={caller.setup.transport}"
    await caller.send("call", uri=f"sip:{CALLED}@{setup.listen}{suffix}")
    await caller.wait("state", state="early")
    steps.next("it rings")
    await caller.wait("state", state="confirmed")
    await callee.wait("state", state="confirmed")
    steps.next("both speak, each hears the other")
    await asyncio.gather(
        caller.wait("played", SPEECH_DEADLINE_S), callee.wait("played", SPEECH_DEADLINE_S)
    )
    steps.next(f"the PBX presses {KEYS}")
    await caller.send("dtmf", digits=KEYS)
    for count in range(1, len(KEYS) + 1):
        await asyncio.to_thread(relay.wait, "dtmf", 10.0, count)
    await callee.wait("dtmf", key=KEYS[-1])
    steps.next("the PBX hangs up")
    await caller.send("hangup")
    await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
    await asyncio.to_thread(relay.wait, "call_ended")
    steps.next("the recording is closed")

"""`relay probe`: its signal, its figures, its command line, and a whole probe."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from relay.cli import app
from relay.probe import command as probe_command
from relay.probe.ends import Sip, WebRtc
from relay.probe.marks import Marks, marks_in, write_marks
from relay.probe.probing import Plan
from relay.probe.quality import Direction, Limits, Report
from tests.unit.switchboard import Switchboard, switchboard, token

GOOD = Direction("caller hears callee", "PCMU", 400, 0, 2.0, 30.0, 60.0, 8, 8)


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        app, ["probe", *arguments]
    )


@pytest.fixture
def board() -> Iterator[Switchboard]:
    """A switchboard in a thread of its own: the command has an event loop itself."""
    ready: threading.Event = threading.Event()
    held: list[tuple[Switchboard, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with switchboard() as board:
            over = asyncio.Event()
            held.append((board, asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    board, loop, over = held[0]
    yield board
    loop.call_soon_threadsafe(over.set)
    thread.join(10)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Stands for the probe: keeps what it was asked for."""
    plans: list[Plan] = []

    def fake(plan: Plan) -> Report:
        plans.append(plan)
        return Report(plan.number, 10.0, 100.0, [GOOD])

    monkeypatch.setattr(probe_command, "probe", fake)
    return plans


def test_marks_are_found_and_timed(tmp_path: Path) -> None:
    path = tmp_path / "marks.wav"
    write_marks(path, 3)
    assert marks_in(path) == 3
    marks = Marks()
    second = path.read_bytes()[44 : 44 + 16000]
    for n in range(3):
        for at in range(0, 16000, 320):
            marks.hear(second[at : at + 320], 8000, 100.0 + n + at / 16000)
    assert marks.delays_ms(100.0 - 0.025) == pytest.approx([25.0] * 3, abs=0.2)
    assert marks.delays_ms(100.0 + 0.001) == pytest.approx([0.0] * 3)  # clocks are read late


def test_each_figure_has_its_limit() -> None:
    worse = {
        "loss 4.76 %": Direction("x", "PCMU", 400, 20, 2.0, 30.0, None, 8, 8),
        "jitter 40.0 ms": Direction("x", "PCMU", 400, 0, 40.0, 30.0, None, 8, 8),
        "delay 300 ms": Direction("x", "PCMU", 400, 0, 2.0, 300.0, None, 8, 8),
        "3 of 8 marks": Direction("x", "PCMU", 400, 0, 2.0, None, None, 3, 8),
        "nothing was received": Direction("x", "PCMU", 0, 0, 0.0, None, None, 0, 8),
    }
    assert Report("b", 1.0, 100.0, [GOOD]).findings(Limits()) == []
    for text, direction in worse.items():
        found = Report("b", 1.0, 100.0, [direction]).findings(Limits(mos=1.0))
        assert len(found) == 1
        assert text in found[0]
    assert "set-up" in Report("b", 1.0, 4000.0, [GOOD]).findings(Limits())[0]
    assert "MOS" in Report("b", 1.0, 100.0, [GOOD]).findings(Limits(mos=4.4))[0]


def test_delay_and_loss_make_the_score_worse() -> None:
    far = Direction("x", "PCMU", 400, 0, 2.0, 250.0, None, 8, 8)
    lossy = Direction("x", "PCMU", 380, 20, 2.0, 30.0, None, 8, 8)
    assert far.mos < GOOD.mos - 0.1
    assert lossy.mos < GOOD.mos - 0.3


@pytest.mark.parametrize(
    ("arguments", "caller", "callee"),
    [
        (
            ("bob", "--webrtc", "wss://ie1:8443", "--token", "a.b.c", "--callee-token", "d.e.f"),
            WebRtc("wss://ie1:8443", "a.b.c"),
            WebRtc("wss://ie1:8443", "d.e.f"),
        ),
        (
            ("+1", "--sip", "[::1]:5060", "--bind", "127.0.0.2:5080", "--codec", "pcma"),
            Sip("127.0.0.2", 5080, "[::1]:5060", user="+35315550100", codec="PCMA"),
            None,
        ),
        (
            ("+1", "--webrtc", "wss://ie1", "--token", "a.b.c", "--callee-sip", "127.0.0.3:5070"),
            WebRtc("wss://ie1", "a.b.c"),
            Sip("127.0.0.3", 5070, user="+1", media_port=4200),
        ),
    ],
)
def test_what_is_asked_for(
    planned: list[Plan], arguments: tuple[str, ...], caller: Any, callee: Any
) -> None:
    assert run(*arguments).exit_code == 0
    assert planned == [Plan(arguments[0], caller, callee)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("bob",),
        ("bob", "--webrtc", "wss://ie1"),
        ("bob", "--webrtc", "https://ie1", "--token", "a.b.c"),
        ("bob", "--webrtc", "wss://ie1", "--token", "@/nowhere"),
        ("bob", "--webrtc", "wss://ie1", "--token", "alice"),
        ("bob", "--webrtc", "wss://ie1", "--token", "a.b.c", "--codec", "GSM"),
        ("bob", "--sip", "127.0.0.1:5060"),
        ("bob", "--sip", "127.0.0.1", "--bind", "127.0.0.2:5080"),
        ("bob", "--sip", "1:1", "--bind", "2:2", "--codec", "OPUS"),
        ("bob", "--sip", "1:1", "--bind", "2:2", "--callee-token", "a.b.c"),
        (
            "bob",
            "--webrtc",
            "wss://a",
            "--token",
            "t",
            "--callee-token",
            "t",
            "--callee-sip",
            "1:1",
        ),
    ],
)
def test_mistakes_in_the_input_are_2(planned: list[Plan], arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert planned == []


def test_a_probe_of_two_voice_clients(board: Switchboard, tmp_path: Path) -> None:
    (tmp_path / "bob.jwt").write_text(token("bob") + "\n")
    ends = ("--webrtc", board.url, "--token", token("alice"))
    result = run("bob", *ends, "--callee-token", f"@{tmp_path}/bob.jwt", "--seconds", "2", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["findings"]) == (0, [])
    assert 0 < report["post_dial_ms"] < report["setup_ms"] < 3000
    for direction in report["directions"]:
        assert direction["marks"] == direction["marks_sent"] == 2
        assert direction["packets"] > 90
        assert direction["delay_ms"] < 100


def test_a_call_that_is_refused_is_a_failure(board: Switchboard) -> None:
    result = run("nobody", "--webrtc", board.url, "--token", token("alice"))
    assert result.exit_code == 1
    assert "calling nobody: 404 Not Found" in result.stdout


def test_a_limit_that_is_not_kept_is_a_failure(board: Switchboard) -> None:
    ends = ("--webrtc", board.url, "--token", token("alice"), "--callee-token", token("bob"))
    result = run("bob", *ends, "--seconds", "2", "--min-mos", "4.5")
    assert result.exit_code == 1
    assert "less than 4.5" in result.stdout


def test_the_time_for_all_of_it_is_bounded(board: Switchboard) -> None:
    ends = ("--webrtc", board.url, "--token", token("alice"), "--callee-token", token("bob"))
    result = run("bob", *ends, "--seconds", "60", "--timeout", "2")
    assert result.exit_code == 1
    assert "both speak: not done in 2 s" in result.stdout

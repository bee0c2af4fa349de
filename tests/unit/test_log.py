"""What reaches the log: structured, one line an event, no number and no body in full."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Log
from relay.log import Journal, configure, mask_number, mask_text

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]

NUMBER = "+353155501234"
INVITE = (
    f"INVITE sip:{NUMBER}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2\r\n"
    f"From: <sip:{NUMBER}@127.0.0.2>;tag=1\r\n\r\nv=0\r\no=alice 1 1 IN IP4 127.0.0.2\r\n"
)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logger(kind: Format = "json", level: Level = "info") -> tuple[Any, io.StringIO]:
    stream = io.StringIO()
    configure(Log(format=kind, level=level), stream)
    return structlog.get_logger(), stream


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (NUMBER, "+35315****34"),
        ("+1 (415) 555-0100", "+1415****00"),
        ("35315550", "3****50"),
        ("5550100", "****00"),
        ("+5550100", "+****00"),
        ("112", "1****"),
        ("alice", "a****"),
        ("", ""),
    ],
)
def test_a_number_is_masked_to_what_recognises_it(number: str, masked: str) -> None:
    assert mask_number(number) == masked


@given(st.from_regex(r"\+?[0-9]{7,15}", fullmatch=True).filter(str.isascii))
def test_at_least_five_digits_stay_hidden(number: str) -> None:
    shown = re.sub(r"\D", "", mask_number(number))
    assert len(shown) <= len(re.sub(r"\D", "", number)) - 5


@given(
    st.text(alphabet=st.characters(blacklist_categories=("Nd", "Cs")), max_size=20),
    st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True).filter(str.isascii),
    st.text(alphabet=st.characters(blacklist_categories=("Nd", "Cs")), max_size=20),
)
def test_no_text_around_a_number_lets_it_through(before: str, number: str, after: str) -> None:
    assert number[1:] not in mask_text(before + number + after)


@pytest.mark.parametrize("kind", ["console", "json"])
@pytest.mark.parametrize("level", ["info", "warning", "error"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("caller_number", NUMBER),
        ("callee_number", NUMBER[1:]),
        ("callee_number", int(NUMBER[1:])),
        ("text", f"no route to {NUMBER}"),
        ("problem", f"sip:{NUMBER[1:]}@127.0.0.1 did not answer"),
        ("problem", f"<tel:{NUMBER[1:]}>"),
        ("uri", f"sip:{NUMBER};npdi@10.0.0.1"),
        ("spoken", "+353 1 555-012-34"),
        ("request", INVITE),
        ("request", INVITE.encode()),
        ("anything", {"from": NUMBER, "list": [NUMBER, INVITE], "deep": {"x": INVITE.encode()}}),
        ("both", (NUMBER, NUMBER)),
    ],
)
def test_no_number_and_no_body_gets_out(kind: Format, level: Level, key: str, value: Any) -> None:
    log, stream = logger(kind)
    getattr(log, level)("call_started", call="c1", **{key: value})
    line = stream.getvalue()
    assert line.count("\n") == 1, "one line an event"
    assert "call_started" in line and "c1" in line
    digits = re.sub(r"[^\d]", "", line.partition("call_started")[2] + line)
    assert NUMBER[1:] not in digits
    assert "INVITE" not in line and "v=0" not in line and "alice" not in line


def test_a_number_in_the_event_or_in_an_exception_is_masked() -> None:
    log, stream = logger()
    try:
        raise ValueError(f"cannot call {NUMBER}")
    except ValueError as bug:
        log.error(f"bug at {NUMBER}", exc_info=bug)
    line = stream.getvalue()
    assert NUMBER not in line
    assert "Traceback" in json.loads(line)["exception"]


def test_json_lines_keep_what_is_not_personal() -> None:
    log, stream = logger()
    fields = {
        "path": "var/recordings/2026-11-23/20261123T101112-0a1b2c.rec",
        "duration_s": 12.34,
        "packets": 123456789,
        "media": "127.0.0.1:20000-39999",
        "problem": None,
        "ok": True,
    }
    log.info("recording_saved", call="0123456789abcdef", **fields)
    found = json.loads(stream.getvalue())
    assert {key: found[key] for key in fields} == fields
    assert found["call"] == "0123456789abcdef"
    assert found["event"] == "recording_saved"
    assert found["level"] == "info"
    assert found["timestamp"].endswith("Z")


def test_a_call_id_that_is_all_digits_stays_what_it_is() -> None:
    log, stream = logger()
    log.info("call_ended", call="12345678")
    assert json.loads(stream.getvalue())["call"] == "12345678"


def test_the_level_is_kept_and_debug_shows_everything() -> None:
    log, stream = logger(level="warning")
    log.info("quiet")
    assert stream.getvalue() == ""
    log, stream = logger(level="debug")
    log.debug("message", text=INVITE)
    assert json.loads(stream.getvalue())["text"] == INVITE


def test_the_console_has_no_colours_when_it_is_no_terminal() -> None:
    log, stream = logger("console")
    log.info("serving", region="ie1")
    assert "\x1b" not in stream.getvalue()
    assert "region=ie1" in stream.getvalue()


def test_values_cannot_forge_a_line() -> None:
    log, stream = logger("console")
    log.info("call_ended", call="x\ny", text="a\r\n2026 [error] forged")
    assert stream.getvalue().count("\n") == 1


def test_the_journal_writes_together_and_each_line_bears_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, stream = logger()
    clock = iter((1.0, 2.5))
    monkeypatch.setattr("relay.log.time.time", lambda: next(clock))
    due: list[Any] = []
    journal = Journal(lambda delay, step: due.append(step))
    journal.event("call_started", "c1", caller_number=NUMBER)
    journal.event("call_ended", "c1")
    assert stream.getvalue() == "" and len(due) == 1, "one wake-up for both"
    due.pop()()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["call"], line["timestamp"]) for line in lines] == [
        ("call_started", "c1", "1970-01-01T00:00:01.000000Z"),
        ("call_ended", "c1", "1970-01-01T00:00:02.500000Z"),
    ]
    journal.flush()
    assert len(stream.getvalue().splitlines()) == 2, "nothing is written twice"

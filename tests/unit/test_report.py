"""The transparency report: its figures, and a page that needs nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from relay.access.report import Place, Quarter, Region, Tally, document
from relay.access.report_page import page
from relay.archive import Archive
from relay.commands.report import actions, region
from relay.config import read
from relay.keys.ring import KeyRing
from relay.residency.record import ERASED
from tests.unit.kept_records import call, month, recording

EXAMPLE = (Path(__file__).parents[2] / "relay.example.toml").read_text("utf-8")
MADE = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
REGION = Region(
    id="ie1",
    jurisdiction="IE",
    entity="Voice <Ireland> & Co",
    policy="sha256:abc",
    manifest="signed",
    enforced=True,
    places=(
        Place("recordings", "s3://voice-ie1", "inside"),
        Place("database", "sqlite:var/relay.db", "on the node"),
    ),
    keys=(("ie1-rec-1", "retired"), ("ie1-rec-2", "active")),
)
ACTIONS = {
    "boundary-refused": {"2026-10": 3, "2026-11": 1, "2026-09": 99},
    "grant-requested": {"2026-11": 4},
    "grant-approved": {"2026-11": 2},
    "grant-used": {"2026-11": 17},
    "erasure-done": {"2026-12": 1},
    "erasure-done:calls": {"2026-12": 6},
    "export-made": {"2026-12": 2},
}


def made(records: list[Any], region: Region = REGION) -> dict[str, Any]:
    tally = Tally(Quarter.parse("2026Q4"))
    for record in records:
        tally.add(record)
    return document(tally, region, ACTIONS, MADE)


RECORDS = [
    *month(300, 40),
    call("call-of-september", started=datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)),
]
REPORT = made(RECORDS)


def test_it_counts_what_the_quarter_has() -> None:
    assert REPORT["calls"]["all"] == {"2026-10": 0, "2026-11": 300, "2026-12": 0}
    answered = sum(record.answered is not None for record in RECORDS[:-1])
    assert REPORT["calls"]["answered"]["2026-11"] == answered
    assert REPORT["recordings"]["made"]["2026-11"] == answered
    assert REPORT["recordings"]["octets"] == 4096 * answered
    assert REPORT["boundary"]["refused"] == {"2026-10": 3, "2026-11": 1, "2026-12": 0}
    assert REPORT["boundary"]["addresses_inside"] == 600
    assert REPORT["grants"]["used"]["2026-11"] == 17
    assert REPORT["erasures"]["calls_redacted"]["2026-12"] == 6


def test_an_erased_recording_is_still_counted() -> None:
    erased = replace(call(), recording=replace(recording("c1"), problem=ERASED, complete=False))
    found = made([erased, call("c2")])["recordings"]
    assert found["made"]["2026-11"] == 2 and found["erased_since"]["2026-11"] == 1
    assert found["incomplete"]["2026-11"] == 0


class _Page(HTMLParser):
    """What a browser would fetch or run, and what a screen reader would say."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.leads: list[str] = []
        self.spoken: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action") or name.startswith("on"):
                self.leads.append(f"{tag} {name}={value}")
            if name == "aria-label":
                self.spoken.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


def parsed(text: str) -> _Page:
    found = _Page()
    found.feed(text)
    assert found.open == []
    return found


def test_the_page_is_whole_by_itself() -> None:
    text = page(REPORT)
    found = parsed(text)
    assert found.leads == [] and "script" not in found.tags and "link" not in found.tags
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_page_can_be_heard() -> None:
    text = page(REPORT)
    found = parsed(text)
    assert '<html lang="en">' in text and found.tags.count("h1") == 1
    assert found.tags.count("svg") == 6 == len(found.spoken)
    assert "2026-11 300" in found.spoken[0]
    assert found.tags.count("caption") == found.tags.count("table")


def test_the_page_says_what_the_document_says() -> None:
    text = page(REPORT)
    for said in ("2026Q4", "s3://voice-ie1", "ie1-rec-2", "Voice &lt;Ireland&gt; &amp; Co", "IE"):
        assert said in text
    assert "<td>300</td>" in text and "warning'" not in text
    dry = Region(**{**{f: getattr(REGION, f) for f in Region.__slots__}, "enforced": False})
    assert "class='warning'" in page(made([], dry))


def test_nobody_is_in_it() -> None:
    text = json.dumps(REPORT) + page(REPORT)
    for record in RECORDS:
        for value in (record.id, record.caller, record.called, "acme", "initech", "192.0.2.17"):
            assert value not in text


def test_a_quarter() -> None:
    quarter = Quarter.parse("2026Q4")
    assert quarter.months == ("2026-10", "2026-11", "2026-12")
    assert quarter.until == datetime(2027, 1, 1, tzinfo=UTC)
    assert Quarter.parse("2026q1").since == datetime(2026, 1, 1, tzinfo=UTC)
    for wrong in ("2026Q5", "2026", "Q4", "2026-11", "0000Q1"):
        with pytest.raises(ValueError, match="is not a quarter"):
            Quarter.parse(wrong)


def test_where_things_are_is_told_without_what_only_the_region_knows(tmp_path: Path) -> None:
    text = EXAMPLE.replace('"var/', f'"{tmp_path}/')
    KeyRing.create(tmp_path / "keys")
    anchors = 'anchors = ["https://127.0.0.1/hook/s3cret", "https://hooks.example/s3cret"]'
    config = read(f"{text}\n[audit]\n{anchors}\n", "relay.toml")
    for enforce in (True, False):
        changed = config.model_copy(
            update={"region": config.region.model_copy(update={"enforce": enforce})}
        )
        places = region(Archive(changed)).places
        assert "s3cret" not in str(places) and "https://hooks.example" in str(places)
        assert ("refused at use" in str(places)) is enforce


def test_a_grant_is_approved_once_however_many_approvals_it_took() -> None:
    def entry(grant: str, action: str, state: str) -> bytes:
        said = {"action": action, "at": "2026-11-26T00:00:00Z", "subject": grant}
        return json.dumps({**said, "actor": {}, "details": {"state": state}}).encode()

    counted = actions(
        (
            entry("g1", "grant-approved", "requested"),
            entry("g1", "grant-approved", "approved"),
            entry("g1", "grant-approved", "approved"),  # two at once, one of which was refused
            entry("g2", "grant-approved", "requested"),
            entry("g1", "grant-revoked", "revoked"),
        )
    )
    assert counted["grant-approved"] == counted["grant-revoked"] == {"2026-11": 1}

"""The one way to what is kept: who sees what, by which grant, and that an entry comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from relay.access.grant import Grant, Scope, State
from relay.access.ports import Counts, Query
from relay.access.roles import Staff, on_this_node
from relay.errors import AuditUnavailable, Forbidden, NotAuthentic, NotKept
from tests.unit.access_fakes import Region
from tests.unit.access_samples import (
    AOIFE,
    BRIAN,
    CALLER,
    HOUR,
    JANE,
    MAEVE,
    NOW,
    POLICY,
    call,
    staff,
)

T = TypeVar("T")
AUDITOR = staff("una", "auditor")
ANALYST = staff("ana", "analyst")
ALL = Query()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def region(**changes: Any) -> Region:
    """With three calls, of two trunks, an hour apart."""
    made = Region(replace(POLICY, **changes))
    made.keep(call("c1"), call("c2", NOW - HOUR), call("c3", NOW - 2 * HOUR, peer="other"))
    return made


def granted(of: Region, scope: Scope | None = None, hours: float = 2) -> Grant:
    until = NOW + timedelta(hours=hours)
    asked = run(of.granting.request(JANE, "ticket 7", scope or Scope(peer="acme"), until, NOW))
    return run(of.granting.approve(AOIFE, asked.id, NOW))


def shown(of: Region, who: Staff, query: Query = ALL, now: datetime = NOW) -> dict[str, str]:
    """The call ids, and how each of them was shown."""
    page = run(of.reading.calls(who, query, now))
    for each in page.calls:
        assert (CALLER in str(each)) is (each["view"] == "personal")
    return {each["id"]: each["view"] for each in page.calls}


# --- lists


def test_from_inside_by_role() -> None:
    of = region()
    assert set(shown(of, MAEVE).values()) == {"personal"}
    assert of.actions() == [("calls-read", "")]
    assert of.audit.entries[0].details == {"by": "list", "count": 3, "calls": "c1,c2,c3"}


@pytest.mark.parametrize("who", [ANALYST, AOIFE, AUDITOR, JANE])
def test_all_others_see_pseudonyms_which_are_no_read_of_persons(who: Staff) -> None:
    of = region()
    assert set(shown(of, who).values()) == {"pseudonyms"}
    assert of.audit.entries == []


def test_a_grant_shows_what_it_covers_and_is_named() -> None:
    of = region()
    grant = granted(of)
    assert shown(of, JANE) == {"c1": "personal", "c2": "personal", "c3": "pseudonyms"}
    entry = of.audit.entries[-1]
    assert (entry.action, entry.actor.grant) == ("calls-read", grant.id)
    assert entry.actor.jurisdiction == "US" and entry.details["calls"] == "c1,c2"


def test_a_grant_gives_no_more_than_the_role() -> None:
    of = region()
    joe = staff("joe", "analyst", jurisdiction="US")
    asked = run(of.granting.request(joe, "x", Scope(peer="acme"), NOW + HOUR, NOW))
    run(of.granting.approve(AOIFE, asked.id, NOW))
    assert set(shown(of, joe).values()) == {"pseudonyms"}
    with pytest.raises(Forbidden, match="analyst may not play recordings"):
        run(of.reading.play(joe, "r-c1", NOW))


def test_two_readers_outside_cannot_join_what_they_see() -> None:
    of = region()
    joe = staff("joe", "support", jurisdiction="US")
    of_jane, of_joe = (run(of.reading.calls(who, ALL, NOW)).calls[0] for who in (JANE, joe))
    assert of_jane["caller"] != of_joe["caller"]
    of.keep(call("c0", NOW + 800 * HOUR))
    next_month, again = run(of.reading.calls(JANE, ALL, NOW + 900 * HOUR)).calls[:2]
    assert of_jane["caller"] == again["caller"] != next_month["caller"]


def test_pages_follow_each_other() -> None:
    of = region()
    first = run(of.reading.calls(MAEVE, Query(limit=2), NOW))
    assert [each["id"] for each in first.calls] == ["c1", "c2"] and first.next == "c2"
    last = run(of.reading.calls(MAEVE, Query(limit=2), NOW, first.next or ""))
    assert [each["id"] for each in last.calls] == ["c3"] and last.next is None
    with pytest.raises(NotKept):
        run(of.reading.calls(MAEVE, Query(), NOW, "c9"))


def test_a_long_page_is_several_entries_that_name_each_call() -> None:
    of = Region()
    of.keep(*(call(f"call-{n:02}", NOW - n * HOUR) for n in range(25)))
    shown(of, MAEVE)
    named = ",".join(str(entry.details["calls"]) for entry in of.audit.entries).split(",")
    assert named == [f"call-{n:02}" for n in range(25)]
    assert all(len(str(entry.details["calls"])) < 300 for entry in of.audit.entries)


def test_a_number_is_searched_from_inside_only() -> None:
    of = region()
    by_number = Query(number=CALLER)
    assert len(shown(of, MAEVE, by_number)) == 3
    assert of.audit.entries[0].details["by"] == "number" and CALLER not in str(of.audit.entries)
    granted(of)
    for who, rule in ((JANE, "jurisdiction"), (AOIFE, "role")):
        with pytest.raises(Forbidden) as refused:
            shown(of, who, by_number)
        assert refused.value.rule == rule
        assert of.audit.notes[-1].details == {"rule": rule, "what": "read call records"}


def test_a_number_that_is_searched_under_pseudonyms_is_an_entry_that_names_what_was_found() -> None:
    of = region()
    page = run(of.reading.calls(MAEVE, Query(number=CALLER), NOW, in_clear=False))
    assert {each["view"] for each in page.calls} == {"pseudonyms"}
    assert of.audit.entries[0].details == {"by": "number", "count": 3, "calls": "c1,c2,c3"}


def test_that_nothing_is_known_of_a_number_is_an_entry_too() -> None:
    of = region()
    assert shown(of, MAEVE, Query(number="+4930123456")) == {}
    assert of.audit.entries[0].details == {"by": "number", "count": 0, "calls": ""}


def test_pseudonyms_are_asked_for_by_the_hour() -> None:
    """Or the second of a call would be found by halving."""
    of = region()
    at = NOW.replace(minute=17, second=5)
    for ask in (of.reading.calls, of.reading.counts):
        run(ask(JANE, Query(since=at, until=at), NOW))  # type: ignore[operator]
        assert of.records.asked[-1].since == at.replace(minute=0, second=0)
        assert of.records.asked[-1].until == at.replace(minute=0, second=0) + HOUR
    run(of.reading.calls(MAEVE, Query(since=at), NOW))
    assert of.records.asked[-1].since == at


def test_counts_are_everybodys() -> None:
    of = region()
    assert run(of.reading.counts(JANE, ALL, NOW)).calls == 3 and of.audit.entries == []
    with pytest.raises(Forbidden):
        run(of.reading.counts(JANE, Query(number=CALLER), NOW))


def test_counts_tell_of_one_call_no_more_than_its_pseudonyms_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = region()

    async def count(query: Query) -> Counts:
        return Counts(1, 1, 1, 90.25)

    monkeypatch.setattr(of.records, "count", count)
    assert run(of.reading.counts(JANE, ALL, NOW)).seconds == 120
    assert run(of.reading.counts(MAEVE, ALL, NOW)).seconds == 90.25


# --- one call, its receipt, its recording


def test_one_call_in_clear_or_refused_or_as_it_may_be() -> None:
    of = region()
    assert run(of.reading.call(MAEVE, "c1", NOW))["view"] == "personal"
    assert of.actions() == [("call-read", "")]
    assert run(of.reading.call(JANE, "c1", NOW))["view"] == "pseudonyms"
    assert run(of.reading.call(MAEVE, "c1", NOW, in_clear=False))["view"] == "pseudonyms"
    with pytest.raises(Forbidden, match="from US you may read call records by a grant only"):
        run(of.reading.call(JANE, "c1", NOW, in_clear=True))
    grant = granted(of)
    assert run(of.reading.call(JANE, "c1", NOW, in_clear=True))["caller"] == CALLER
    assert of.actions()[-1] == ("call-read", grant.id)


def test_a_receipt_is_an_auditors() -> None:
    of = region()
    of.records.receipts["c1"] = {"call": "c1"}
    assert run(of.reading.receipt(AUDITOR, "c1", NOW)) == {"call": "c1"}
    assert of.actions() == [("receipt-read", "")]
    for who, rule in ((MAEVE, "role"), (staff("x", "auditor", jurisdiction="US"), "grant")):
        with pytest.raises(Forbidden) as refused:
            run(of.reading.receipt(who, "c1", NOW))
        assert refused.value.rule == rule
    with pytest.raises(NotKept, match="has no receipt"):
        run(of.reading.receipt(AUDITOR, "c2", NOW))


def test_a_recording_is_played_by_role_or_grant() -> None:
    of = region()
    assert run(of.reading.play(MAEVE, "r-c1", NOW, "flac", True)).size == 256 * 1024
    assert of.recordings.opened == [("r-c1", "flac", True)]
    with pytest.raises(Forbidden) as refused:
        run(of.reading.play(JANE, "r-c1", NOW))
    assert refused.value.rule == "grant" and len(of.recordings.opened) == 1
    grant = granted(of, Scope(frozenset({"c1"})))
    assert run(run(of.reading.play(JANE, "r-c1", NOW)).read(2, 5, NOW)) == b"\2\3\4"
    entry = of.audit.entries[-1]
    assert (entry.subject, entry.actor.grant) == ("r-c1", grant.id)
    assert entry.details == {"call": "c1", "form": "wav"}
    with pytest.raises(Forbidden):
        run(of.reading.play(JANE, "r-c2", NOW))
    with pytest.raises(NotKept):
        run(of.reading.play(MAEVE, "r-c9", NOW))


def test_a_recording_that_was_changed_is_an_entry() -> None:
    of = region()

    async def changed(*asked: object) -> None:
        raise NotAuthentic("segment 3 was changed")

    of.recordings.open = changed  # type: ignore[method-assign,assignment]
    with pytest.raises(NotAuthentic):
        run(of.reading.play(MAEVE, "r-c1", NOW))
    assert (of.audit.notes[-1].action, of.audit.notes[-1].subject) == (
        *("recording-not-authentic", "r-c1"),
    )


def test_what_is_known_of_a_recording() -> None:
    of = region()
    assert run(of.reading.recording(MAEVE, "r-c1", NOW))["object"] == "2026/c1.rec"
    with pytest.raises(Forbidden):
        run(of.reading.recording(JANE, "r-c1", NOW))


@pytest.mark.parametrize("end", ["revoked", "expired", "token"])
def test_playing_ends_with_what_allowed_it(end: str) -> None:
    of = region()
    grant = granted(of, hours=0.5)
    audio = run(of.reading.play(JANE, "r-c1", NOW))
    assert run(audio.read(0, 10, NOW))
    now = NOW
    if end == "revoked":
        run(of.granting.revoke(BRIAN, grant.id, NOW))
    else:
        now = NOW + timedelta(minutes=31 if end == "expired" else 61)
    with pytest.raises(Forbidden) as refused:
        run(audio.read(10, 20, now))
    assert refused.value.rule == ("token" if end == "token" else "grant")


def test_from_inside_playing_ends_with_the_token() -> None:
    audio = run(region().reading.play(MAEVE, "r-c1", NOW))
    with pytest.raises(Forbidden, match="token has expired"):
        run(audio.read(0, 1, NOW + HOUR))


# --- the audit log


def test_without_an_entry_nothing_is_given_away() -> None:
    of = region()
    of.records.receipts["c1"] = {"call": "c1"}
    granted(of)
    of.audit.away = True
    reading = of.reading
    for work in (
        reading.calls(MAEVE, ALL, NOW),
        reading.calls(JANE, ALL, NOW),
        reading.call(MAEVE, "c1", NOW),
        reading.receipt(AUDITOR, "c1", NOW),
        reading.recording(MAEVE, "r-c1", NOW),
        reading.play(MAEVE, "r-c1", NOW),
        reading.audit_lines(AUDITOR, 1, NOW),
    ):
        with pytest.raises(AuditUnavailable):
            run(work)  # type: ignore[arg-type]
    assert of.recordings.opened == []
    assert run(reading.calls(ANALYST, ALL, NOW)).calls  # pseudonyms are no read of persons


def test_without_an_entry_no_grant_changes() -> None:
    of = region()
    asked = run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW))
    of.audit.away = True
    for work in (
        of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW),
        of.granting.approve(AOIFE, asked.id, NOW),
        of.granting.revoke(AOIFE, asked.id, NOW),
    ):
        with pytest.raises(AuditUnavailable):
            run(work)
    assert list(of.grants.kept.values()) == [asked]


def test_the_audit_log_is_read_inside_by_auditors() -> None:
    of = region()

    async def lines(who: Staff) -> list[bytes]:
        return [line async for line in await of.reading.audit_lines(who, 1, NOW)]

    assert run(lines(AUDITOR)) == [b"audit-exported"]
    for who, rule in ((MAEVE, "role"), (staff("x", "auditor", jurisdiction="US"), "jurisdiction")):
        with pytest.raises(Forbidden) as refused:
            run(lines(who))
        assert refused.value.rule == rule


def test_each_refusal_is_noted_with_its_rule() -> None:
    of = region()
    with pytest.raises(Forbidden):
        run(of.reading.play(JANE, "r-c1", NOW))
    (note,) = of.audit.notes
    assert (note.action, note.subject, note.details) == (
        *("access-refused", "c1"),
        {"rule": "grant", "what": "play recordings"},
    )


def test_who_runs_the_node_is_named_as_such() -> None:
    of = region()
    run(of.reading.call(on_this_node("root@n1", POLICY, NOW + HOUR), "c1", NOW))
    assert of.audit.entries[0].actor.kind == "host"


# --- grants


def test_each_step_of_a_grant_is_an_entry() -> None:
    of = region(approvals=2)
    asked = run(of.granting.request(JANE, "ticket 7", Scope(peer="acme"), NOW + HOUR, NOW))
    run(of.granting.approve(AOIFE, asked.id, NOW))
    assert set(shown(of, JANE).values()) == {"pseudonyms"}
    run(of.granting.approve(BRIAN, asked.id, NOW))
    run(of.granting.revoke(BRIAN, asked.id, NOW))
    assert [(entry.action, entry.actor.name) for entry in of.audit.entries] == [
        ("grant-requested", "jane"),
        ("grant-approved", "aoife"),
        ("grant-approved", "brian"),
        ("grant-revoked", "brian"),
    ]
    assert [entry.details.get("state") for entry in of.audit.entries[1:]] == [
        *("requested", "approved", "revoked"),
    ]
    assert all(entry.subject == asked.id for entry in of.audit.entries)
    assert "ticket 7" not in str(of.audit.entries)


def test_a_refused_approval_is_noted() -> None:
    of = region()
    asked = run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW))
    with pytest.raises(Forbidden):
        run(of.granting.approve(staff("jane", "approver"), asked.id, NOW))
    assert of.audit.notes[-1].details == {"rule": "four-eyes"}
    with pytest.raises(NotKept):
        run(of.granting.approve(AOIFE, "g9", NOW))


def test_what_has_expired_is_kept_so() -> None:
    of = region()
    grant = granted(of)
    assert set(shown(of, JANE, now=NOW + 3 * HOUR).values()) == {"pseudonyms"}
    assert of.grants.kept[grant.id].state is State.EXPIRED
    assert of.audit.notes[-1].action == "grant-expired"
    assert "personal" not in shown(of, JANE).values()  # the clock has stepped back


def test_an_older_row_that_was_put_back_is_no_grant() -> None:
    """Who can write to the database has kept it from before; the audit log knows of the end."""
    of = region()
    wanted = run(of.granting.request(JANE, "ticket 7", Scope(peer="acme"), NOW + HOUR, NOW))
    approved = run(of.granting.approve(AOIFE, wanted.id, NOW))
    assert "personal" in shown(of, JANE).values()
    run(of.granting.revoke(AOIFE, wanted.id, NOW))
    for older in (approved, wanted):
        of.grants.kept[wanted.id] = older
        assert "personal" not in shown(of, JANE).values()
        assert run(of.granting.all(AOIFE, NOW))[0].state is State.REVOKED
        assert of.audit.notes[-1].action == "grant-restored"
        with pytest.raises(Forbidden, match="is revoked"):
            run(of.granting.approve(BRIAN, wanted.id, NOW))


def test_another_node_knows_what_it_has_seen_ended() -> None:
    of, other = region(), region()
    other.grants.kept = of.grants.kept
    grant = granted(of)
    for each in (of, other):
        assert "personal" in shown(each, JANE).values()
    run(of.granting.revoke(AOIFE, grant.id, NOW))
    for _ in range(2):
        run(other.granting.all(AOIFE, NOW))
    assert [note.action for note in other.audit.notes] == ["grant-over"]
    of.grants.kept[grant.id] = grant
    assert "personal" not in shown(other, JANE).values()


def test_a_step_that_was_not_kept_is_told_after_its_entry() -> None:
    of = region()
    asked = run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW))

    async def twice() -> list[object]:
        both = (of.granting.approve(AOIFE, asked.id, NOW) for _ in range(2))
        return await asyncio.gather(*both, return_exceptions=True)

    change = of.grants.change

    async def later(*step: Any) -> Grant:
        await asyncio.sleep(0)
        return await change(*step)

    of.grants.change = later  # type: ignore[method-assign]
    assert sum(isinstance(each, Forbidden) for each in run(twice())) == 1
    assert [note.action for note in of.audit.notes] == ["grant-approved-failed"]


def test_who_sees_which_grants() -> None:
    of = region()
    grant = granted(of)
    joe = staff("joe", "approver", "support", jurisdiction="US")
    for who, sees in ((JANE, 1), (joe, 0), (AOIFE, 1), (AUDITOR, 1), (MAEVE, 0)):
        assert len(run(of.granting.all(who, NOW))) == sees
    assert run(of.granting.find(AOIFE, grant.id, NOW)).id == grant.id
    with pytest.raises(NotKept):
        run(of.granting.find(joe, grant.id, NOW))


def test_a_grant_of_another_jurisdictions_token_is_worth_nothing() -> None:
    of = region()
    granted(of)
    assert "personal" not in shown(of, replace(JANE, jurisdiction="IN")).values()


def test_nobody_has_open_grants_without_end() -> None:
    of = region()
    for _ in range(20):
        run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW))
    with pytest.raises(Forbidden) as refused:
        run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + HOUR, NOW))
    assert refused.value.rule == "open-grants"
    assert run(of.granting.request(JANE, "x", Scope(peer="acme"), NOW + 3 * HOUR, NOW + 2 * HOUR))

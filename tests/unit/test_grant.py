"""Grants: who may ask, who may approve, what one covers, and that its end is for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.access.grant import TRANSITIONS, Grant, Scope, State, Step, request
from relay.access.roles import Staff
from relay.errors import Forbidden
from tests.unit.access_samples import AOIFE, BRIAN, HOUR, JANE, MAEVE, NOW, POLICY, call, staff

TWO = replace(POLICY, approvals=2)
ACME = Scope(peer="acme")


def asked(scope: Scope = ACME, **changes: object) -> Grant:
    made = request("g1", JANE, POLICY, "ticket 7", scope, NOW + 2 * HOUR, NOW)
    return replace(made, **changes)  # type: ignore[arg-type]


def rule(refused: pytest.ExceptionInfo[Forbidden]) -> str:
    return refused.value.rule


def test_requested_approved_used_expired() -> None:
    grant = asked()
    assert grant.state is State.REQUESTED and not grant.allows(JANE, call(), NOW)
    grant = grant.approve(AOIFE, POLICY, NOW)
    assert grant.state is State.APPROVED and grant.allows(JANE, call(), NOW)
    last = NOW + 2 * HOUR - timedelta(microseconds=1)
    assert grant.allows(JANE, call(), last)
    assert not grant.allows(JANE, call(), NOW + 2 * HOUR)
    assert grant.at(NOW + 2 * HOUR).state is State.EXPIRED


def test_with_two_approvals_two_people_approve() -> None:
    grant = request("g1", JANE, TWO, "ticket 7", ACME, NOW + HOUR, NOW).approve(AOIFE, TWO, NOW)
    assert grant.state is State.REQUESTED and not grant.allows(JANE, call(), NOW)
    with pytest.raises(Forbidden, match="approved it already") as refused:
        grant.approve(AOIFE, TWO, NOW)
    assert rule(refused) == "four-eyes"
    assert grant.approve(BRIAN, TWO, NOW).allows(JANE, call(), NOW)


def test_nobody_approves_their_own_request() -> None:
    """Also not with another token, which says that they are inside."""
    with pytest.raises(Forbidden) as refused:
        asked().approve(staff("jane", "approver"), POLICY, NOW)
    assert rule(refused) == "four-eyes"


@pytest.mark.parametrize(
    ("who", "name"),
    [
        (MAEVE, "role"),
        (JANE, "jurisdiction"),
        (staff("joe", "approver", jurisdiction="US"), "jurisdiction"),
    ],
)
def test_only_an_approver_inside_approves(who: Staff, name: str) -> None:
    with pytest.raises(Forbidden) as refused:
        asked().approve(who, POLICY, NOW)
    assert rule(refused) == name


@pytest.mark.parametrize("state", [State.EXPIRED, State.REVOKED, State.APPROVED])
def test_what_is_over_or_done_is_not_approved(state: State) -> None:
    with pytest.raises(Forbidden, match=f"is {state.value}: no approve"):
        asked(state=state).approve(AOIFE, POLICY, NOW)
    with pytest.raises(Forbidden, match="is expired: no approve"):
        asked().approve(AOIFE, POLICY, NOW + 3 * HOUR)


@pytest.mark.parametrize("who", [AOIFE, JANE, replace(MAEVE, kind="host")])
def test_revoked_at_once_and_for_good(who: Staff) -> None:
    grant = asked().approve(BRIAN, POLICY, NOW).revoke(who, POLICY, NOW)
    assert (grant.state, grant.revoked_by, grant.revoked) == (State.REVOKED, who.name, NOW)
    assert not grant.allows(JANE, call(), NOW)
    assert grant.at(NOW + 9 * HOUR).state is State.REVOKED
    with pytest.raises(Forbidden):
        grant.revoke(who, POLICY, NOW)


def test_others_do_not_revoke() -> None:
    for who in (MAEVE, staff("joe", "approver", jurisdiction="US")):
        with pytest.raises(Forbidden):
            asked().revoke(who, POLICY, NOW)


def test_once_seen_expired_it_stays_so_when_the_clock_steps_back() -> None:
    grant = asked().approve(AOIFE, POLICY, NOW).at(NOW + 3 * HOUR)
    assert not grant.allows(JANE, call(), NOW)


def test_it_is_good_for_its_holder_alone() -> None:
    grant = asked().approve(AOIFE, POLICY, NOW)
    assert not grant.allows(staff("joe", "reviewer", jurisdiction="US"), call(), NOW)
    assert not grant.allows(replace(JANE, jurisdiction="IN"), call(), NOW)


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        (Scope(frozenset({"c1"})), True),
        (Scope(frozenset({"r-c1"})), True),
        (Scope(frozenset({"c2"})), False),
        (Scope(peer="acme"), True),
        (Scope(peer="app"), True),
        (Scope(peer="acm"), False),
        (Scope(since=NOW), True),
        (Scope(since=NOW + HOUR), False),
        (Scope(since=NOW - HOUR, until=NOW), False),
        (Scope(since=NOW - HOUR, until=NOW + HOUR), True),
        (Scope(frozenset({"c1"}), peer="other"), False),
        (Scope(frozenset({"c1"}), "acme", NOW - HOUR, NOW + HOUR), True),
    ],
)
def test_a_scope_covers_what_fits_all_of_it(scope: Scope, covers: bool) -> None:
    assert scope.covers(call()) is covers
    assert asked(scope).approve(AOIFE, POLICY, NOW).allows(JANE, call(), NOW) is covers


def test_a_scope_of_everything_is_none() -> None:
    for parts in ({}, {"until": NOW}, {"since": NOW, "until": NOW}):
        with pytest.raises(Forbidden) as refused:
            Scope(**parts)  # type: ignore[arg-type]
        assert rule(refused) == "scope"
    with pytest.raises(Forbidden):
        Scope(frozenset(map(str, range(1001))))


@pytest.mark.parametrize(
    ("who", "reason", "hours", "name"),
    [
        (MAEVE, "ticket 7", 1.0, "jurisdiction"),
        (JANE, "", 1.0, "reason"),
        (JANE, "   ", 1.0, "reason"),
        (JANE, "x" * 501, 1.0, "reason"),
        (JANE, "two\nlines", 1.0, "reason"),
        (JANE, "ticket 7", 0.0, "until"),
        (JANE, "ticket 7", -1.0, "until"),
        (JANE, "ticket 7", 72.01, "until"),
    ],
)
def test_a_request_that_cannot_be_meant(who: Staff, reason: str, hours: float, name: str) -> None:
    with pytest.raises(Forbidden) as refused:
        request("g1", who, POLICY, reason, ACME, NOW + timedelta(hours=hours), NOW)
    assert rule(refused) == name


def test_an_end_has_no_way_out() -> None:
    for state in (State.EXPIRED, State.REVOKED):
        assert not any((state, step) in TRANSITIONS for step in Step)


steps = st.lists(
    st.tuples(
        st.sampled_from(("approve", "revoke")),
        st.sampled_from((MAEVE, AOIFE, BRIAN, JANE)),
        st.integers(-30, 90),
    ),
    max_size=12,
)


@given(steps, st.sampled_from((POLICY, TWO)))
def test_whatever_is_done_in_whatever_order_it_takes_approvers_inside(
    done: list[tuple[str, Staff, int]], policy: object
) -> None:
    """Clock steps back and forth included: an end stays, and an approval is of others inside."""
    assert policy in (POLICY, TWO)
    rules = TWO if policy is TWO else POLICY
    grant = request("g1", JANE, rules, "ticket 7", ACME, NOW + HOUR, NOW)
    ended = False
    for name, who, minutes in done:
        now = NOW + timedelta(minutes=minutes)
        grant = grant.at(now)
        ended = ended or grant.state in (State.EXPIRED, State.REVOKED)
        try:
            grant = getattr(grant, name)(who, rules, now)
        except Forbidden:
            continue
        assert not ended
        if grant.state is State.APPROVED:
            by = {approval.by for approval in grant.approvals}
            assert len(by) == rules.approvals and by <= {"aoife", "brian"}


def test_a_name_in_other_letters_is_the_same_person() -> None:
    with pytest.raises(Forbidden, match="own request"):
        asked().approve(staff("Jane", "approver"), POLICY, NOW)
    once = replace(asked(), needed=2).approve(AOIFE, TWO, NOW)
    with pytest.raises(Forbidden, match="approved it already"):
        once.approve(staff("AOIFE", "approver"), TWO, NOW)


def test_a_call_of_which_nothing_is_sealed_is_covered_by_its_id_only() -> None:
    """Its time and peers could have been written by anybody."""
    bare = call(legs=(replace(call().legs[0], sip_call_id=""),))
    assert ACME.covers(call()) and not ACME.covers(bare)
    assert not Scope(frozenset({"c1"})).covers(bare)  # nor that the recording is its own
    assert Scope(frozenset({"r-c1"})).covers(bare)
